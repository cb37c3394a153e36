#!/bin/busybox sh
# First process under qemu. Loads what Debian's kernel has as modules, then makes /tree the root: as a mount
# of its own, because a container's first act is to pivot away from its root, and an initramfs cannot be left so.
busybox=/bin/busybox
# The beat of run.sh begins only there.
echo '~'
while read -r name; do
	$busybox insmod "/modules/$name.ko" || echo "| module $name was not loaded"
done </modules/order
$busybox mount -o bind /tree /tree
$busybox mount -t proc proc /tree/proc
$busybox mount -t sysfs sysfs /tree/sys
$busybox mount -t devtmpfs dev /tree/dev
cd /tree || exit 1
$busybox mount -o move . /
echo '~'
exec $busybox chroot . /sbin/init
