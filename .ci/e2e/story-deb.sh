#!/usr/bin/env bash
# The package as a volunteer meets it: built twice with the same bytes, lintian, installed in a root of its own whose systemd is
# started in namespaces (no container program, no change to this machine), told what to mirror, reloaded, killed, given port 80 by the socket
# unit, removed and purged.
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story story-deb

base=$E2E_CACHE/bookworm-systemd.tar # Debian's smallest system with systemd
vm=$work/root

# --- the package
bash "$root/.ci/deb" "$work/one" >"$work/logs/deb.out" 2>&1 || die "the package could not be built"
(umask 077 && TZ=Asia/Tokyo LC_ALL=C.UTF-8 bash "$root/.ci/deb" "$work/two" >"$work/logs/deb2.out" 2>&1) || die "the package could not be built again"
check "two builds give the same bytes, for both architectures" diff -r "$work/one" "$work/two"
for a in amd64 arm64; do
  deb=$(echo "$work"/one/*_"$a".deb)
  step "$a: $(mib "$(stat -c %s "$deb")")"
  check "lintian has no error for $a" lintian --allow-root --fail-on error "$deb"
done
deb=$(echo "$work"/one/*_"$(dpkg --print-architecture)".deb)

# --- a system that has it
if [[ ! -s $base ]]; then
  # shellcheck disable=SC2016 # apt expands it
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | head -1)
  debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,curl,logrotate bookworm "$work/base" "$mirror" >"$work/logs/debootstrap.out" 2>&1 ||
    die "no root"
  tar -C "$work/base" -cf "$base.new" . && mv "$base.new" "$base"
  rm -rf "$work/base"
fi
mkdir "$vm"
tar -C "$vm" -xpf "$base"
for u in getty.target console-getty.service systemd-udevd.service systemd-udev-trigger.service; do ln -sf /dev/null "$vm/etc/systemd/system/$u"; done
cp "$deb" "$vm/swarmnode.deb"

# inside COMMAND...: in the namespaces and the root of the system that was booted.
inside() { timeout 120 nsenter -t "$init" -m -p -i -u -C -r -w env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
init_of() { init=$(cat "/proc/${pid[vm]}/task/${pid[vm]}/children") && init=${init// /} && [[ -n $init ]] && inside systemctl is-system-running | grep -Eq 'running|degraded'; }
prop() { inside systemctl show -P "$1" "${2:-swarmnode.service}"; }
has() { [[ $(prop "$1" "${3:-swarmnode.service}") == "$2" ]]; }
main_other() { [[ $(prop MainPID) != "$main" ]] && has ActiveState active; }
node_complete() { inside swarmnode status --json | jq -e '.collections[0].complete'; }

start vm unshare --mount --pid --fork --kill-child --uts --ipc --cgroup "$root/.ci/debian/boot.sh" "$vm"
until_true 60 "systemd runs" init_of
check "it installs" inside dpkg -i /swarmnode.deb
check "the unit files are right" inside systemd-analyze verify --man=no /lib/systemd/system/swarmnode.service /lib/systemd/system/swarmnode-gateway.socket
step "security: $(inside systemd-analyze security --no-pager swarmnode.service | tail -1)"
check "systemd rates the sandbox at 1.3 or better" inside systemd-analyze security --no-pager --threshold=13 swarmnode.service
check "it is enabled" has UnitFileState enabled
check "nothing was started, and that is no failure" has Result exec-condition
check "nor is there a failed unit" not grep -q swarmnode <(inside systemctl --failed --no-legend)

# --- told what to mirror
mkdir "$work/tree"
head -c 3000000 /dev/urandom >"$work/tree/file"
free_port
publish master "$work/tree" "$work/master" "$port" --name story --gateway none
wait_published master
free_port; gateway=$port
free_port
printf '%s\n' "SWARMNODE_BOOTSTRAP=$address" "SWARMNODE_LISTEN=/ip4/127.0.0.1/tcp/$port" "SWARMNODE_GATEWAY=127.0.0.1:$gateway" \
  SWARMNODE_ACCESS_LOG=/var/log/swarmnode/access.log >>"$vm/etc/default/swarmnode"
check "it starts" inside systemctl start swarmnode.service
check "started means that the gateway answers" curl -fsS -o "$work/page" "http://127.0.0.1:$gateway/"
check "and that the node does" inside swarmnode status
until_true 60 "complete" node_complete
check "the file comes byte-exact" cmp "$work/tree/file" <(curl -fsS "http://127.0.0.1:$gateway/story/file")
step "systemctl status says: $(prop StatusText)"
check "it runs as its user" test "$(inside ps -o user= -p "$(prop MainPID)" 2>/dev/null || inside stat -c %U "/proc/$(prop MainPID)")" = swarmnode
check "what it keeps is its own" test "$(inside stat -c '%U %a' /var/lib/swarmnode)" = "swarmnode 700"
main=$(prop MainPID)
check "logrotate renames the access log" inside logrotate -f /etc/logrotate.d/swarmnode
curl -fsS -o "$work/page" "http://127.0.0.1:$gateway/"
until_true 10 "the new access log is written" test -s "$vm/var/log/swarmnode/access.log"
check "the reload did not end it" has MainPID "$main"
inside systemctl kill --kill-whom=main -s ABRT swarmnode.service # as the watchdog does
until_true 60 "started again" main_other
t=$(seconds)
check "it stops" inside systemctl stop swarmnode.service
step "stopped in $(since "$t") s"
check "cleanly" has Result success

# --- port by the socket unit; it goes on without a bootstrap
sed -i '/^SWARMNODE_BOOTSTRAP=/d; /^SWARMNODE_GATEWAY=/d' "$vm/etc/default/swarmnode"
mkdir -p "$vm/etc/systemd/system/swarmnode-gateway.socket.d"
printf '[Socket]\nListenStream=\nListenStream=127.0.0.1:%s\n' "$gateway" >"$vm/etc/systemd/system/swarmnode-gateway.socket.d/port.conf"
inside systemctl daemon-reload
check "the socket starts" inside systemctl start swarmnode-gateway.socket
check "a request starts the node and is answered" cmp "$work/tree/file" <(curl -fsS --max-time 60 "http://127.0.0.1:$gateway/story/file")
check "a request during a restart waits and is answered" bash -c "
  (sleep 0.2; curl -fsS --max-time 60 -o '$work/page' 'http://127.0.0.1:$gateway/story/file') & p=\$!
  timeout 60 nsenter -t $init -m -p -i -u -C -r -w systemctl restart swarmnode.service && wait \$p"

# --- removed
check "it is removed" inside dpkg -r swarmnode
check "what it kept stays" test -d "$vm/var/lib/swarmnode/collections"
check "it is purged" inside dpkg -P swarmnode
check "nothing of it is left" test -z "$(cd "$vm" && ls -d var/lib/swarmnode var/log/swarmnode etc/default/swarmnode etc/systemd/system/*.wants/swarmnode* 2>/dev/null)"
kill -KILL "$init"
finish
