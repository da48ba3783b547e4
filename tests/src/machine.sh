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

# The cgroups' mounts show the machine's own part of each hierarchy (see cgroups.sh).
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup2 /mnt/cgroup
    # A cgroup whose children have controllers holds no process itself.
    mkdir -p /mnt/cgroup/parts
    echo 1 >/mnt/cgroup/parts/cgroup.procs
    sed 's/[a-z]*/+&/g' /mnt/cgroup/cgroup.controllers >/mnt/cgroup/cgroup.subtree_control
else
    mount -t tmpfs -o mode=755 tmpfs /mnt/cgroup
    for hierarchy in /sys/fs/cgroup/*; do
        name=${hierarchy##*/}
        if [ -L "$hierarchy" ]; then
            ln -s "$(readlink "$hierarchy")" "/mnt/cgroup/$name"
        elif [ -f "$hierarchy/cgroup.procs" ]; then
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
