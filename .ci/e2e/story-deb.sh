#!/usr/bin/env bash
# The package as a volunteer meets it: built twice with the same bytes, lintian, the binary for arm64 run in an emulator; installed by apt in a
# root and a network of its own whose systemd is started in namespaces (no container program, no change to this machine). There it runs at
# once, is told what to mirror and which site to follow, upgraded, configured well and wrongly, reloaded, killed, given a port by the socket unit,
# removed and purged.
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story story-deb

base=$E2E_CACHE/bookworm-apt-systemd.tar # Debian's smallest system with systemd and all that the package wants
vm=$work/root
native=$(dpkg --print-architecture)

# --- the package
commit=$(git -C "$root" rev-parse --short=12 HEAD)
build() { bash "$1/.ci/deb" "$work/$2" "${@:3}" >"$work/logs/deb-$2.out" 2>&1; }
build "$root" one || die "the package could not be built"
VERSION=0~0before build "$root" before "$native" || die "the package could not be built as an older one"
# Again in another directory, with an empty cache: everything is compiled again, while the story goes on.
cp -a "$root" "$work/elsewhere"
start again env GOCACHE="$work/cache" TZ=Asia/Tokyo LC_ALL=C.UTF-8 bash -c "umask 077; bash '$work/elsewhere/.ci/deb' '$work/two' '$native'"
for a in amd64 arm64; do
  deb=$(echo "$work"/one/*_"$a".deb)
  mkdir "$work/$a"
  dpkg-deb -x "$deb" "$work/$a"
  step "$a: $(mib "$(stat -c %s "$deb")"), the binary $(mib "$(stat -c %s "$work/$a/usr/bin/swarmnode")")"
  check "lintian has no error and no warning for $a" lintian --allow-root --fail-on error,warning "$deb"
  check "the binary for $a is static" not grep -q . <(file -b "$work/$a/usr/bin/swarmnode" | grep -v 'statically linked')
done
mkdir "$work/tree"
head -c 3000000 /dev/urandom >"$work/tree/file"
printf '#!/bin/sh\nexec qemu-aarch64-static %s "$@"\n' "$work/arm64/usr/bin/swarmnode" >"$work/arm"
chmod +x "$work/arm"
check "the binary for arm64 says what it is" grep "^swarmnode .* (commit $commit of 2.*, linux/arm64)\$" <("$work/arm" --version)
free_port
SWARMNODE=$work/arm publish arm "$work/tree" "$work/arm-home" "$port"
wait_published arm 300
SWARMNODE=$work/arm check "in an emulator it publishes, and gets what was published" got arm-get "$id" "$work/arm-got" "$address" 300
check "byte-exact" cmp "$work/tree/file" "$work/arm-got/file"
stop INT arm 120
deb=$(echo "$work"/one/*_"$native".deb)
version=$(dpkg-deb -f "$deb" Version)

# --- a system that has it
if [[ ! -s $base ]]; then
  # shellcheck disable=SC2016 # apt expands it
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | head -1)
  debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,curl,logrotate,ca-certificates bookworm "$work/base" "$mirror" >"$work/logs/debootstrap.out" 2>&1 ||
    die "no root"
  tar -C "$work/base" -cf "$base.new" . && mv "$base.new" "$base"
  rm -rf "$work/base"
fi
mkdir "$vm"
tar -C "$vm" -xpf "$base"
for u in getty.target console-getty.service systemd-udevd.service systemd-udev-trigger.service; do ln -sf /dev/null "$vm/etc/systemd/system/$u"; done
install -m 644 "$deb" "$vm/swarmnode.deb"
install -m 644 "$work"/before/*.deb "$vm/before.deb"

# inside COMMAND...: in the namespaces and the root of the system that was booted.
inside() { timeout 300 nsenter -t "$init" -m -n -p -i -u -C -r -w env -i DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
init_of() { init=$(cat "/proc/${pid[vm]}/task/${pid[vm]}/children") && init=${init// /} && [[ -n $init ]] && inside systemctl is-system-running | grep -E 'running|degraded' >/dev/null; }
prop() { inside systemctl show -P "$1" "${2:-swarmnode.service}"; }
has() { [[ $(prop "$1" "${3:-swarmnode.service}") == "$2" ]]; }
main_other() { [[ $(prop MainPID) != "$main" ]] && has ActiveState active; }
node_complete() { inside swarmnode status --json | jq -e '.collections[] | select(.name == "story").complete'; }
node_id() { inside swarmnode status --json | jq -r .id; }
backlog() { nsenter -t "$init" -n ss -ltnH "sport = :8080" | awk '{ print $3 }'; }
told() { inside journalctl --no-pager -u swarmnode.service "$@"; }
answers() { inside curl -fsS -o /dev/null "http://127.0.0.1:8080/$1"; }
byte_exact() { cmp "$work/tree/file" <(inside curl -fsS --max-time 60 http://127.0.0.1:8080/story/file); }

start vm unshare --mount --net --pid --fork --kill-child --uts --ipc --cgroup "$root/.ci/debian/boot.sh" "$vm"
until_true 180 "systemd runs" init_of

# --- installed: it runs
check "apt installs it, in the version before" inside sh -c 'apt install -y /before.deb >/installed 2>&1'
check "it said what to do next" grep -q 'swarmnode collections add ID --bootstrap ADDRESS' "$vm/installed"
check "the service runs" inside systemctl is-active swarmnode
check "and at the next boot" has UnitFileState enabled
check "there is no failed unit" not grep -q swarmnode <(inside systemctl --failed --no-legend)
check "the gateway answers at the usual port" answers ""
check "status finds the service by itself, and says that there is nothing yet" grep '^idle: nothing is mirrored or published yet' <(inside swarmnode status)
check "so does systemctl status" grep '^idle: nothing is mirrored' <(prop StatusText)
check "so does its own user" grep '^idle: nothing is mirrored' <(inside runuser -u swarmnode -- swarmnode status)
check "and its configuration" grep '/etc/swarmnode/swarmnode.toml' <(inside runuser -u swarmnode -- swarmnode config check)
inside useradd --create-home --groups swarmnode anna
anna() { inside runuser -u anna -- "$@" 2>&1; }
check "who is in its group is told to ask as root" grep 'as root: sudo swarmnode' <(anna swarmnode status)
check "also one who names its directory" grep 'answers only the user who runs it' <(anna swarmnode status --home /var/lib/swarmnode)
check "and may look at its dashboard" anna curl -fsS -o /dev/null http://127.0.0.1:4180/
check "its binary says the package's version" grep '^swarmnode 0~0before (commit ' <(inside swarmnode --version)
check "the unit files are right" inside systemd-analyze verify --man=no /lib/systemd/system/swarmnode.service /lib/systemd/system/swarmnode-gateway.socket
step "security: $(inside systemd-analyze security --no-pager swarmnode.service | tail -1)"
check "systemd rates the sandbox at 1.3 or better" inside systemd-analyze security --no-pager --threshold=13 swarmnode.service
check "it runs as its user" test "$(inside stat -c %U "/proc/$(prop MainPID)")" = swarmnode
check "what it keeps is its own" test "$(inside stat -c '%U %a' /var/lib/swarmnode)" = "swarmnode 700"
check "what it is told is root's" test "$(inside stat -c '%U %a' /etc/swarmnode)" = "root 755"
check "listening sockets have the queue that the system allows" test "$(backlog)" = "$(inside cat /proc/sys/net/core/somaxconn)"
check "manual pages and completions are in their places" inside ls /usr/share/man/man1/swarmnode{,-join,-collections-add}.1.gz \
  /usr/share/man/man8/swarmnode-service.8.gz /usr/share/bash-completion/completions/swarmnode /usr/share/zsh/vendor-completions/_swarmnode \
  /usr/share/fish/vendor_completions.d/swarmnode.fish
check "the example of a configuration is right" inside swarmnode config check /usr/share/doc/swarmnode/examples/swarmnode.toml
check "Grafana's dashboard is JSON" jq -e .panels "$vm/usr/share/doc/swarmnode/examples/grafana.json"

# --- told what to mirror
printf '#!/bin/sh\nexec nsenter -t %s -n %s "$@"\n' "$init" "$SWARMNODE" >"$work/in-its-network"
chmod +x "$work/in-its-network"
SWARMNODE=$work/in-its-network publish master "$work/tree" "$work/master" 4200 --name story --gateway none
wait_published master
check "it is told what to mirror" inside swarmnode collections add "$id" --bootstrap "$address"
until_true 120 "complete" node_complete
check "the file comes byte-exact" byte_exact
was=$(node_id)

# --- a site that is there already is followed: the service does it, told once by a command
mkdir "$work/site"
echo first >"$work/site/page"
chmod 755 "$work" "$work/site"
printf 'daemon off; worker_processes 1; user root; pid %s/nginx.pid; error_log %s/logs/nginx.err;\nevents {}\nhttp { access_log off; server { listen 127.0.0.1:8001; root %s/site; autoindex on; } }\n' \
  "$work" "$work" "$work" >"$work/nginx.conf"
start site nsenter -t "$init" -n nginx -p "$work" -c "$work/nginx.conf" -e "$work/logs/nginx.err"
openssl rand -hex 32 >"$vm/etc/swarmnode/secret"
inside chown root:swarmnode /etc/swarmnode/secret
inside chmod 640 /etc/swarmnode/secret
page() { [[ $(inside curl -fsS "http://127.0.0.1:8080/site/page") == "$1" ]]; }
changes() { echo "$1" >"$work/site/page.new" && mv "$work/site/page.new" "$work/site/page"; }
calls() { # as the README says
  local T B S
  T=$(date +%s) B=$(openssl rand -hex 8)
  S=$(printf '%s.%s' "$T" "$B" | openssl dgst -sha256 -hmac "$(cat "$vm/etc/swarmnode/secret")" | sed 's/.* //')
  inside curl -fsS -d "$B" -H "X-Swarmnode-Signature: t=$T,v1=$S" http://127.0.0.1:9000/site
}
failing() { inside swarmnode status | grep 'failing since'; }
check "root tells the service to follow a site" inside swarmnode publish --from http://127.0.0.1:8001/ --from-private --name site --every 5m \
  --webhook :9000 --webhook-secret-file /etc/swarmnode/secret
check "it is served at once" page first
changes second
check "a webhook is taken" calls
until_true 120 "the change is served after a webhook" page second
changes third
check "systemctl reload has it look" inside systemctl reload swarmnode.service
until_true 120 "the change is served after a reload" page third

# --- upgraded
# It goes on with both, and with what root has written.
echo SWARMNODE_UPLOAD=50Mbit >>"$vm/etc/default/swarmnode"
site_id() { inside swarmnode status --json | jq -er '.collections[] | select(.name == "site").id'; }
followed=$(site_id)
main=$(prop MainPID)
check "apt upgrades it" inside apt install -y /swarmnode.deb
check "the new one runs" main_other
check "with the new version" grep -F "swarmnode $version (commit " <(inside swarmnode --version)
check "it is the same node" test "$(node_id)" = "$was"
check "with what it mirrored" node_complete
check "and serves it" byte_exact
check "what it followed is the same collection" test "$(site_id)" = "$followed"
check "which it serves" page third
changes fourth
check "a webhook is taken, as the one before was told" calls
until_true 120 "it follows the site" page fourth
check "all files are as they were packed, but the one that was edited" test "$(inside dpkg --verify swarmnode)" = '??5?????? c /etc/default/swarmnode'

# --- configured, wrongly at first
printf '[join]\nacess-log = "/var/log/swarmnode/access.log"\n' >"$vm/etc/swarmnode/swarmnode.toml"
check "with a mistake in its configuration it is not started" not inside systemctl restart swarmnode
check "nor tried again" has ActiveState failed
check "the status says misused" has ExecMainStatus 2
check "the journal has the line, as an error" grep 'swarmnode.toml:2: .*did you mean access-log' <(told -p err)
sed -i 's/acess/access/' "$vm/etc/swarmnode/swarmnode.toml"
check "without it it is" inside systemctl restart swarmnode
check "started means that the gateway answers" answers ""
check "and that the node does, with the limit of the environment" grep 'upload 50Mbit' <(inside swarmnode limits)
check "no line in the journal has two times" not grep -E '^([0-9/]{10} )?[0-9]{2}:[0-9]{2}:[0-9]{2} ' <(told -o cat)
check "what it had is served" page fourth
check "and what it mirrors" node_complete
changes fifth
check "it looks again when it is told" inside swarmnode publish --now site
check "and the change is served" page fifth

# --- the same by its configuration
mkdir -p "$vm/etc/systemd/system/swarmnode.service.d"
printf '[Service]\nExecStart=\nExecStart=/usr/bin/swarmnode publish\n' >"$vm/etc/systemd/system/swarmnode.service.d/publish.conf"
printf '[publish]\nfrom = "http://127.0.0.1:8001/"\nfrom-private = true\nname = "site"\nevery = "5s"\n' >>"$vm/etc/swarmnode/swarmnode.toml"
check "the configuration of a publisher is right" inside swarmnode config check
inside systemctl daemon-reload
check "with an ExecStart that publishes it runs" inside systemctl restart swarmnode.service
changes sixth
until_true 120 "the site is followed as the configuration says" page sixth
check "status says how" grep -F 'origin    http://127.0.0.1:8001/, every 5s' <(inside swarmnode status)
stop TERM site
until_true 120 "a dead origin is told in the status" failing
check "with the origin dead the service starts" inside systemctl restart swarmnode.service
until_true 120 "what it had is served" page sixth
rm "$vm/etc/systemd/system/swarmnode.service.d/publish.conf" "$vm/etc/swarmnode/secret"
sed -i '/^\[publish\]/,$d' "$vm/etc/swarmnode/swarmnode.toml"
inside systemctl daemon-reload
inside systemctl restart swarmnode.service

main=$(prop MainPID)
check "logrotate renames the access log" inside logrotate -f /etc/logrotate.d/swarmnode
answers ""
until_true 120 "the new access log is written" test -s "$vm/var/log/swarmnode/access.log"
check "the reload did not end it" has MainPID "$main"
inside systemctl kill --kill-whom=main -s ABRT swarmnode.service # as the watchdog does
until_true 120 "started again after the watchdog's signal" main_other
check "what it did then is in the journal" grep -q 'SIGABRT: abort' <(told -o cat)
t=$(seconds)
check "it stops" inside systemctl stop swarmnode.service
step "stopped in $(since "$t") s"
check "cleanly" has Result success

# --- port by the socket unit; the publisher is away
stop INT master
mkdir -p "$vm/etc/systemd/system/swarmnode-gateway.socket.d"
printf '[Socket]\nListenStream=\nListenStream=127.0.0.1:8080\n' >"$vm/etc/systemd/system/swarmnode-gateway.socket.d/port.conf"
inside systemctl daemon-reload
check "the socket starts" inside systemctl start swarmnode-gateway.socket
check "a request starts the node and is answered" byte_exact
check "its queue is as long" test "$(backlog)" = "$(inside cat /proc/sys/net/core/somaxconn)"
restarted() {
  (sleep 0.2; byte_exact) &
  local asks=$!
  inside systemctl restart swarmnode.service && wait "$asks"
}
check "a request during a restart waits and is answered" restarted

# --- removed
check "it is removed" inside apt remove -y swarmnode
check "what it kept stays" test -d "$vm/var/lib/swarmnode/collections"
check "installed again it goes on" inside apt install -y /swarmnode.deb
check "with what it had" node_complete
check "it is purged" inside apt purge -y swarmnode
check "nothing of it is left" test -z "$(cd "$vm" && ls -d var/lib/swarmnode var/log/swarmnode etc/default/swarmnode etc/systemd/system/*.wants/swarmnode* 2>/dev/null)"
check "but what root wrote" test -s "$vm/etc/swarmnode/swarmnode.toml"
kill -KILL "$init"

# --- the same again
reap again
((status == 0)) || die "the package could not be built again"
check "built again, all of it, elsewhere, by another umask and clock: the same bytes" cmp "$deb" "$work"/two/*.deb
finish
