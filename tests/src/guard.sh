# Clears away what a cluster leaves behind: sh guard.sh LAB_DIR CLUSTER
#
# Runs beside the cluster from its start and waits for the end of its standard input, which is the end of
# the cluster's owner. Its machines end by themselves at that same moment; this is for what the kernel
# does not take along: cgroups, the folder, and a machine that hangs.
lab_dir=$1 cluster=$2
trap '' INT TERM HUP
cat >/dev/null

machines() { # the machines' first processes that still run
    [ -f "$lab_dir/machines" ] || return 0
    while read -r pid started; do
        stat=$(cat "/proc/$pid/stat" 2>/dev/null) || continue
        set -- ${stat##*)}
        [ "$1" = Z ] || [ "${20}" != "$started" ] || echo "$pid"
    done <"$lab_dir/machines"
}

round=0
while [ -n "$(machines)" ] && [ $round -lt 100 ]; do
    round=$((round + 1))
    [ $round -lt 20 ] || kill -9 $(machines) 2>/dev/null
    sleep 0.05
done

# A killed process leaves its cgroup a moment later than its parent is told.
round=0
while [ $round -lt 200 ]; do
    round=$((round + 1))
    left=
    for top in /sys/fs/cgroup /sys/fs/cgroup/*; do
        [ -d "$top/announcer-lab/$cluster" ] && [ ! -L "$top" ] || continue
        find "$top/announcer-lab/$cluster" -depth -type d -exec rmdir {} + 2>/dev/null
        rmdir "$top/announcer-lab" 2>/dev/null
        [ ! -d "$top/announcer-lab/$cluster" ] || left=$top
    done
    [ -n "$left" ] || break
    sleep 0.05
done
rm -rf "$lab_dir"
rmdir "${lab_dir%/*}" 2>/dev/null
exit 0
