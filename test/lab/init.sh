#!/bin/busybox sh
# PID 1 of a lab host. Loads KVM, shows the real machine's files copy-on-write, runs the job there, hands on what it says.
# The command line's word lab.job=BYTES is the length of the job's script, which comes by the port lab.control.
# The script's lines "#writable TAG FOLDER" name folders that are the machine's own also for writing.
b=/bin/busybox
fail() { echo "lab: $1"; $b poweroff -f; }
word() { $b sed -n "s/.*lab\.$1=\([^ ]*\).*/\1/p" /proc/cmdline; }

$b mkdir -p /proc /sys /dev /low /up /root
$b mount -t proc proc /proc; $b mount -t sysfs sys /sys; $b mount -t devtmpfs dev /dev
while read -r module; do $b insmod "/modules/$module.ko" || echo "lab: insmod $module failed"; done </modules/order

share=trans=virtio,version=9p2000.L,msize=1048576,cache=loose
$b mount -t 9p -o "$share,ro" root /low || fail 'the machine'\''s files cannot be seen (9p)'
$b mount -t tmpfs -o size=75% up /up; $b mkdir /up/new /up/work
$b mount -t overlay -o lowerdir=/low,upperdir=/up/new,workdir=/up/work over /root || fail 'no overlay'
$b mount -t devtmpfs dev /root/dev; $b mkdir -p /root/dev/shm /root/dev/pts
$b mount -t tmpfs shm /root/dev/shm; $b mount -t devpts pts /root/dev/pts
$b mount -t proc proc /root/proc; $b mount -t sysfs sys /root/sys; $b mount -t tmpfs run /root/run
$b ln -sf /proc/self/fd /root/dev/fd
for link in 0:stdin 1:stdout 2:stderr; do $b ln -sf "/proc/self/fd/${link%:*}" "/root/dev/${link#*:}"; done
$b ip link set lo up 2>/dev/null
[ -e /dev/kvm ] || echo 'lab: KVM does not work on this kernel and host'
ulimit -n 1048576

for port in /sys/class/virtio-ports/*; do
  read -r name <"$port/name"
  eval "${name#lab.}=/dev/${port##*/}"
done
exec 3<>"$control"
$b dd bs=1 count="$(word job)" <&3 >/root/run/job 2>/dev/null
$b sed -n 's/^#writable //p' /root/run/job | while read -r tag folder; do
  $b mount -t 9p -o "trans=virtio,version=9p2000.L,msize=1048576,cache=none" "$tag" "/root$folder" || fail "$folder cannot be seen (9p)"
done

# Pipes between, since a port can be opened once only and a job may open /dev/stdout.
$b mkfifo /out /err
$b cat /out >"$out" & $b cat /err >"$err" &
$b chroot /root /bin/sh /run/job </dev/null >/out 2>/err 3<&-
status=$?
wait
echo "$status" >&3
$b sync
$b poweroff -f
