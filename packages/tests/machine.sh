#!/bin/sh
# The first process of a throw-away machine: see machine.py. Arguments: a folder, and the program that follows.
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
shift
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,ro,bind proc/sys
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/shm dev/pts
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t cgroup2 cgroup2 sys/fs/cgroup
# No unit of the real machine starts here, but those that a test asks for.
rm -rf etc/systemd/system lib/systemd/system/*.wants etc/init.d/*
# Nor is there anything of a fipsrelay that the real machine may have.
rm -rf etc/fipsrelay etc/default/fipsrelay lib/systemd/system/fipsrelay.* var/log/fipsrelay var/lib/fipsrelay
rm -rf usr/bin/fipsrelay opt/fipsrelay
# Services may be started here, whatever the real machine's policy is.
rm -f usr/sbin/policy-rc.d
mkdir -p etc/systemd/system old
ln -s /dev/null etc/systemd/system/systemd-remount-fs.service
printf '[Unit]\nDefaultDependencies=no\n' >etc/systemd/system/machine.target
pivot_root . old
umount -l /old
echo made
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
