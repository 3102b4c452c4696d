#!/bin/sh
# boot.sh WORK DEBIAN [FOLDER...]: as the first process of new namespaces, become the systemd of the folder DEBIAN.
# What is written, and every mount, is gone when the namespaces end. The FOLDERs are seen at their own paths, read-only.
set -eu
work=$1 debian=$2
shift 2
mount --make-rprivate /
mount -t tmpfs tmpfs "$work"
root=$work/root
mkdir "$work/upper" "$work/overlay" "$root"
mount -t overlay -o "lowerdir=$debian,upperdir=$work/upper,workdir=$work/overlay" overlay "$root"
for folder; do
    mkdir -p "$root$folder"
    mount --bind "$folder" "$root$folder"
    mount -o remount,bind,ro "$root$folder"
    unit=$root/etc/systemd/system/$(chroot "$root" systemd-escape --path --suffix=mount "$folder")
    mkdir "$unit.d"
    printf '[Unit]\nDefaultDependencies=no\n' >"$unit.d/stay.conf" # no soft-reboot unmounts it
done

# Where the container could reach the settings of the machine's own kernel, it may only read.
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"

mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mknod -m 666 "$root/dev/null" c 1 3
mknod -m 666 "$root/dev/zero" c 1 5
mknod -m 666 "$root/dev/full" c 1 7
mknod -m 666 "$root/dev/random" c 1 8
mknod -m 666 "$root/dev/urandom" c 1 9
mknod -m 666 "$root/dev/tty" c 5 0
for unit in systemd-sysctl systemd-modules-load modprobe@ systemd-udevd systemd-udev-trigger; do
    ln -s /dev/null "$root/etc/systemd/system/$unit.service"
done

cd "$root"
mkdir -p old
pivot_root . old
umount -l /old
exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --show-status=0 </dev/null
