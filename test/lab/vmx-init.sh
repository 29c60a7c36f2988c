#!/bin/busybox sh
# PID 1 of an Intel lab host, whose files are all in its initramfs. Loads KVM, runs the job, hands on what it says by the second
# and third serial port, then its status by the fourth.
b=/bin/busybox
$b mkdir -p /proc /sys /dev /run /root
$b mount -t proc proc /proc; $b mount -t sysfs sys /sys; $b mount -t devtmpfs dev /dev
$b mkdir -p /dev/shm /dev/pts; $b mount -t tmpfs shm /dev/shm; $b mount -t devpts pts /dev/pts
$b ln -sf /proc/self/fd /dev/fd
for link in 0:stdin 1:stdout 2:stderr; do $b ln -sf "/proc/self/fd/${link%:*}" "/dev/${link#*:}"; done
$b --install -s
while read -r module; do insmod "/modules/$module.ko" || echo "lab: insmod $module failed"; done </modules/order
ip link set lo up
[ -e /dev/kvm ] || echo 'lab: KVM does not work on this kernel and host'
ulimit -n 1048576

for port in 1 2 3; do stty -F "/dev/ttyS$port" raw 115200; done
# Pipes between, since a job may open /dev/stdout. A port's last close waits until all of it has been sent.
mkfifo /run/out /run/err
cat /run/out >/dev/ttyS1 & cat /run/err >/dev/ttyS2 &
/bin/sh /job </dev/null >/run/out 2>/run/err
status=$?
wait
echo "$status" >/dev/ttyS3
poweroff -f
