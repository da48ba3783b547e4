# Starts the first process of a machine: sh cgroups.sh CLUSTER MACHINE PAUSE
#
# Every machine has a part of each cgroup hierarchy, and a cgroup namespace in which that part is the
# root. So its containers are told from everybody else's when it is gone, and its containerd and kubelet
# find what they would find on a host of their own.
set -eu
cluster=$1 machine=$2 pause=$3

join() { # join HIERARCHY
    mine="$1/announcer-lab/$cluster/$machine"
    # The guard of a cluster that ends may remove the folders above ours while we make ours.
    tries=0
    until mkdir -p "$mine" 2>/dev/null; do
        tries=$((tries + 1))
        [ $tries -lt 50 ] || exit 1
        sleep 0.02
    done
    for level in "$1/announcer-lab" "$1/announcer-lab/$cluster" "$mine"; do
        # A cpuset without processors or memory takes no process.
        if [ -f "$level/cpuset.mems" ] && [ -f "$1/cgroup.clone_children" ]; then
            [ -n "$(cat "$level/cpuset.cpus")" ] || cat "$1/cpuset.cpus" >"$level/cpuset.cpus"
            [ -n "$(cat "$level/cpuset.mems")" ] || cat "$1/cpuset.mems" >"$level/cpuset.mems"
        fi
    done
    echo $$ >"$mine/cgroup.procs"
}

if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    mkdir -p "/sys/fs/cgroup/announcer-lab/$cluster/$machine"
    controllers=$(sed 's/[a-z]*/+&/g' /sys/fs/cgroup/cgroup.controllers)
    for level in . announcer-lab "announcer-lab/$cluster"; do
        echo "$controllers" >"/sys/fs/cgroup/$level/cgroup.subtree_control" 2>/dev/null || true
    done
    join /sys/fs/cgroup
else
    for hierarchy in /sys/fs/cgroup/*; do
        [ -L "$hierarchy" ] || [ ! -f "$hierarchy/cgroup.procs" ] || join "$hierarchy"
    done
fi
exec unshare --cgroup --pid --mount --net --uts --fork --mount-proc --propagation private "$pause" -until-eof
