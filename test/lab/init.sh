#!/bin/busybox sh
# PID 1 of a lab host. Loads KVM, shows files of the real machine copy-on-write, runs the job there, hands on what it says.
# Words of the command line: lab.host=svm|vmx says where the files are and by what the job speaks.
# svm: all files by 9p. The job's script comes by the port lab.control; lab.job=BYTES is its length. Its lines "#writable TAG FOLDER"
# name folders that are the machine's own also for writing. vmx: the files that the job needs are on the CD, the job and what goes
# with it in /extra, and the job speaks by the serial ports after the console's.
b=/bin/busybox
fail() { echo "lab: $1"; $b poweroff -f; }
word() { $b sed -n "s/.*lab\.$1=\([^ ]*\).*/\1/p" /proc/cmdline; }

$b mkdir -p /proc /sys /dev /low /up /root
$b mount -t proc proc /proc; $b mount -t sysfs sys /sys; $b mount -t devtmpfs dev /dev
while read -r module; do $b insmod "/modules/$module.ko" || echo "lab: insmod $module failed"; done </modules/order

host=$(word host)
low=/low
share=trans=virtio,version=9p2000.L,msize=1048576,cache=loose
case $host in
svm) $b mount -t 9p -o "$share,ro" root /low || fail 'the machine'\''s files cannot be seen (9p)' ;;
vmx)
  tries=0 # the drive is found some time after its driver has loaded
  until [ -b /dev/sr0 ] || [ $tries = 100 ]; do tries=$((tries + 1)); $b sleep 0.1; done
  $b mount -t iso9660 -o ro /dev/sr0 /low || fail 'the CD cannot be read'
  low=/low/files
  ;;
esac
$b mount -t tmpfs -o size=75% up /up; $b mkdir /up/new /up/work
$b mount -t overlay -o "lowerdir=$low,upperdir=/up/new,workdir=/up/work" over /root || fail 'no overlay'
$b mkdir -p /root/dev /root/proc /root/sys /root/run
$b mount -t devtmpfs dev /root/dev; $b mkdir -p /root/dev/shm /root/dev/pts
$b mount -t tmpfs shm /root/dev/shm; $b mount -t devpts pts /root/dev/pts
$b mount -t proc proc /root/proc; $b mount -t sysfs sys /root/sys; $b mount -t tmpfs run /root/run
$b ln -sf /proc/self/fd /root/dev/fd
for link in 0:stdin 1:stdout 2:stderr; do $b ln -sf "/proc/self/fd/${link%:*}" "/root/dev/${link#*:}"; done
if [ "$host" = vmx ]; then
  $b cp -r /extra/. /root/
  $b cp /bin/busybox /root/bin/
  $b chroot /root /bin/busybox --install -s # which wants /proc
fi
$b ip link set lo up 2>/dev/null
if [ -e /dev/kvm ]; then /bin/stay; else echo 'lab: KVM does not work on this kernel and host'; fi
for cpu in /sys/devices/system/cpu/cpu[1-9]*/online; do [ ! -e "$cpu" ] || echo 1 >"$cpu"; done # stay.S says why so late
ulimit -n 1048576

case $host in
svm)
  for port in /sys/class/virtio-ports/*; do
    read -r name <"$port/name"
    eval "${name#lab.}=/dev/${port##*/}"
  done
  exec 3<>"$control"
  $b dd bs=1 count="$(word job)" <&3 >/root/run/job 2>/dev/null
  $b sed -n 's/^#writable //p' /root/run/job | while read -r tag folder; do
    $b mount -t 9p -o "trans=virtio,version=9p2000.L,msize=1048576,cache=none" "$tag" "/root$folder" || fail "$folder cannot be seen (9p)"
  done
  ;;
vmx)
  out=/dev/ttyS1 err=/dev/ttyS2
  for port in 1 2 3; do $b stty -F "/dev/ttyS$port" raw 115200; done
  exec 3>/dev/ttyS3
  $b mv /root/job /root/run/job
  ;;
esac

# Pipes between, since a port can be opened once only and a job may open /dev/stdout. A serial port's last close waits until all
# of it has been sent.
$b mkfifo /out /err
$b cat /out >"$out" & outputs=$!
$b cat /err >"$err" & outputs="$outputs $!"
cpus=$($b cat /sys/devices/system/cpu/online)
[ "$host" = vmx ] || cpus=1-${cpus##*-} # svm-host.ts says why not the first
$b taskset -c "$cpus" $b chroot /root /bin/sh /run/job </dev/null >/out 2>/err 3<&-
status=$?
wait $outputs
echo "$status" >&3
$b sync
$b poweroff -f
