# Furnishes a new machine, from inside its namespaces: sh machine.sh LAB_DIR CLUSTER MACHINE
#
# What a machine keeps on disk lies on tmpfs, at the places where a real host keeps it. It goes with the
# mount namespace, so a machine that is switched off leaves no file behind.
set -eu
mount() { command mount -n "$@"; } # keeps no record in /run, which is replaced below
lab_dir=$1 cluster=$2 machine=$3

hostname "$machine" 2>/dev/null || echo "$machine" >/proc/sys/kernel/hostname

# The room in which the next mounts are prepared: it becomes /run.
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir -p /mnt/cgroup "/mnt/announcer-lab/$cluster" /mnt/announcer-lab-node /mnt/etc/upper /mnt/etc/work /mnt/lock
mount --bind "$lab_dir" "/mnt/announcer-lab/$cluster"

# Cgroups: every machine sees its own subtree as the root, so that its containers' cgroups can be told
# from everybody else's when it is gone.
own() { # own HIERARCHY: makes our part of it
    part="$1/announcer-lab/$cluster/$machine"
    mkdir -p "$1/announcer-lab" "$1/announcer-lab/$cluster" "$part"
    for level in "$1/announcer-lab" "$1/announcer-lab/$cluster" "$part"; do
        if [ -f "$level/cpuset.mems" ] && [ -f "$1/cgroup.clone_children" ]; then
            [ -n "$(cat "$level/cpuset.cpus")" ] || cat "$1/cpuset.cpus" >"$level/cpuset.cpus"
            [ -n "$(cat "$level/cpuset.mems")" ] || cat "$1/cpuset.mems" >"$level/cpuset.mems"
        fi
    done
}
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    own /sys/fs/cgroup
    controllers=$(sed 's/[a-z]*/+&/g' /sys/fs/cgroup/cgroup.controllers)
    for level in . announcer-lab "announcer-lab/$cluster"; do
        echo "$controllers" >"/sys/fs/cgroup/$level/cgroup.subtree_control" 2>/dev/null || true
    done
    mount --bind "/sys/fs/cgroup/announcer-lab/$cluster/$machine" /mnt/cgroup
else
    mount -t tmpfs -o mode=755 tmpfs /mnt/cgroup
    for hierarchy in /sys/fs/cgroup/*; do
        name=${hierarchy##*/}
        if [ -L "$hierarchy" ]; then
            ln -s "$(readlink "$hierarchy")" "/mnt/cgroup/$name"
        elif [ -d "$hierarchy" ] && [ -f "$hierarchy/cgroup.procs" ]; then
            own "$hierarchy"
            mkdir "/mnt/cgroup/$name"
            mount --bind "$hierarchy/announcer-lab/$cluster/$machine" "/mnt/cgroup/$name"
        fi
    done
fi
mount --move /mnt /run

# /sys of this network namespace, with a bpffs of its own.
mount -t sysfs sysfs /sys
mount --move /run/cgroup /sys/fs/cgroup
mount -t bpf -o mode=700 bpf /sys/fs/bpf

mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work overlay /etc
for place in /var/lib /var/log; do mount -t tmpfs -o mode=755 tmpfs "$place"; done

# The kubelet wants these; they are the whole kernel's, so it is shown what it wants to see instead.
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    file=${setting%=*}
    [ -f "/proc/sys/$file" ] || continue
    shown="/run/sysctl-$(echo "$file" | tr / -)"
    echo "${setting#*=}" >"$shown"
    mount --bind "$shown" "/proc/sys/$file"
done

# A real host's mounts are shared (systemd makes them so); containers with HostToContainer need it.
mount --make-rshared /

echo "$machine" >/etc/hostname
printf '127.0.0.1 localhost\n::1 localhost\n127.0.1.1 %s\n' "$machine" >/etc/hosts
printf '%s' "$cluster/$machine" | sha256sum | cut -c1-32 >/etc/machine-id
cat /proc/sys/kernel/random/uuid >/run/announcer-lab-node/boot-id
ip link set lo up
