#!/usr/bin/env bash
# A Linux guest whose disk is our NBD export: it writes a pattern and reads it back. By hand, since
# it wants a kernel: apt install qemu-system-x86 qemu-utils busybox-static cpio kmod linux-image-cloud-amd64
#
#     tests/manual/guest.sh [KERNEL]        about half a minute, without KVM; ends with "the guest is done"
set -euo pipefail
root="$(cd "$(dirname "$0")/../.." && pwd)"
kernel="${1:-$(ls /boot/vmlinuz-*cloud* | sort -V | tail -n 1)}"
work="$(mktemp -d)"
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$work"' EXIT
cd "$work"

# The guest's whole system: busybox, what finds a virtio disk, and a script.
mkdir -p ram/bin ram/dev ram/proc ram/sys ram/modules
cp "$(command -v busybox)" ram/bin/
order=
for file in $(for module in virtio_pci virtio_blk; do
    modprobe -S "${kernel##*/vmlinuz-}" --show-depends "$module"
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }'); do
    cp "$file" ram/modules/
    order="$order ${file##*/}"
done
cat > ram/init <<INIT
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs none /dev
/bin/busybox mount -t proc none /proc
for module in $order; do /bin/busybox insmod /modules/\$module; done
n=0
while [ ! -b /dev/vda ] && [ \$n -lt 100 ]; do /bin/busybox usleep 100000; n=\$((n + 1)); done
/bin/busybox yes guest | /bin/busybox dd of=/dev/vda bs=64k count=64 seek=16 iflag=fullblock conv=fsync
echo 3 > /proc/sys/vm/drop_caches
/bin/busybox dd if=/dev/vda bs=64k count=64 skip=16 | /bin/busybox md5sum > /sum
/bin/busybox yes guest | /bin/busybox dd bs=64k count=64 iflag=fullblock | /bin/busybox md5sum > /wanted
[ -b /dev/vda ] && /bin/busybox cmp /sum /wanted && echo "the guest is done"
/bin/busybox poweroff -f
INIT
chmod +x ram/init
(cd ram && find . | cpio --quiet -o -H newc | gzip -1 > ../initramfs)

qemu-img create -q -f qcow2 disk.qcow2 64M
mkfifo talk
"$root/.venv/bin/python" -m monitor --qmp stdio \
    --blockdev "qcow2,node-name=disk,file.driver=file,file.filename=$work/disk.qcow2" \
    --nbd-server "addr.type=unix,addr.path=$work/nbd.sock" \
    --export nbd,id=disk,node-name=disk,name=disk,writable=on < talk > said &
server=$!
exec 3> talk
until [ -S nbd.sock ]; do sleep 0.1; done

timeout 300 qemu-system-x86_64 -accel tcg -m 256 -nodefaults -display none -serial stdio -no-reboot \
    -kernel "$kernel" -initrd initramfs -append "console=ttyS0 panic=-1 quiet" \
    -drive "if=virtio,format=raw,file=nbd+unix:///disk?socket=$work/nbd.sock" | tee guest.log

printf '%s\n' '{"execute":"qmp_capabilities"}' '{"execute":"quit"}' >&3
wait "$server"
server=
grep -q "the guest is done" guest.log
qemu-img check disk.qcow2
{ yes guest || true; } | head -c 4M > wanted.raw
qemu-img convert -f qcow2 -O raw disk.qcow2 disk.raw
cmp <(tail -c +1048577 disk.raw | head -c 4M) wanted.raw
echo "the disk holds what the guest wrote"
