#!/bin/busybox sh
# PID 1 of the Linux that runs as apiary's guest. Does what the monitor types on the serial line, one line a command, and
# answers in lines that begin with "LAB ": so that each step waits for the one before, however slow the host is.
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
stty -echo
cpus=/sys/devices/system/cpu

# What a CPU has taken so far of the local APIC's own interrupts: timer, reschedule, function call.
counts() {
  awk -v cpu="CPU$1" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == cpu) column = i + 1; next }
    column && ($1 == "LOC:" || $1 == "RES:" || $1 == "CAL:") { printf "%s%s ", tolower($1), $column }' /proc/interrupts
}
masks() { echo "possible $(cat $cpus/possible) present $(cat $cpus/present) online $(cat $cpus/online)"; }
known() { for each in $cpus/cpu[0-9]*; do printf '%s ' "${each##*/cpu}"; done; }

have=" $(known)"
echo "LAB ready $(uname -r) $(masks)"
while read -r verb cpu; do
  case $verb in
    appeared) # a CPU that was not there before
      cpu=
      while [ -z "$cpu" ]; do
        for each in $(known); do case "$have" in *" $each "*) ;; *) cpu=$each ;; esac; done
        [ "$cpu" ] || usleep 50000
      done
      have=" $(known)"
      echo "LAB appeared $cpu" ;;
    use)
      if echo 1 >$cpus/cpu$cpu/online; then
        before=$(counts $cpu)
        apicid=$(awk -v RS= -v cpu=$cpu '$3 == cpu' /proc/cpuinfo | sed -n 's/^apicid.*: //p')
        where=$(taskset -c $cpu sh -c 'i=0; while [ $i -lt 2000 ]; do i=$((i + 1)); done; cut -d" " -f39 /proc/self/stat')
        # Wakes a task there from another CPU, again and again.
        taskset -c 0 sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; usleep 10000; done' | taskset -c $cpu cat >/dev/null
        echo "LAB used $cpu apicid $apicid task on $where before $before after $(counts $cpu)"
      else
        echo "LAB refused $cpu"
      fi ;;
    gone)
      while [ -d $cpus/cpu$cpu ]; do usleep 50000; done
      have=" $(known)"
      echo "LAB gone $cpu $(masks)" ;;
    report)
      for each in $(known); do [ "$(cat $cpus/cpu$each/online 2>/dev/null)" = 0 ] || echo "LAB took $each $(counts $each)"; done
      echo "LAB reported $(masks)" ;;
    off) poweroff -f ;;
  esac
done
