#!/bin/sh
# Becomes the init of a root directory, in namespaces of its own: unshare --mount --pid --fork --uts --ipc --cgroup boot.sh ROOT
set -e
root=$1
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount --rbind /dev "$root/dev"
cd "$root"
pivot_root . mnt # not chroot: the kernel refuses user namespaces (PrivateUsers=) in one
exec env -i container=swarmnode PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c "umount -l /mnt; exec /lib/systemd/systemd --system --unit=multi-user.target"
