#!/usr/bin/env bash
# The third journey with the package managers of Debian, Fedora, openSUSE and Arch: the master publishes an archive and goes off,
# two mirrors serve it, and apt, dnf, zypper, pacman, zsync and apt-mirror work with their gateways as with any mirror, also
# while the release changes under them. They run in private roots; nothing of this machine's own package state is touched.
#
# PACKAGES_SERVER=nginx serves the plain tree with nginx instead: what fails there as well is wrong in this story and not in the
# gateway.
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story story-packages
server=${PACKAGES_SERVER:-gateway}
unset http_proxy https_proxy ftp_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY no_proxy
for part in packages-tree packages-apt packages-rpm packages-arch packages-cold; do
  # shellcheck disable=SC1090 # each is checked by itself
  source "$here/$part.sh"
done

# --- servers: both give a log in the combined format ----------------------------------------------------------------------

# serve starts the two servers of the tree and sets base and base2, the addresses of the archive there.
serve() {
  local m
  for m in m1 m2; do
    free_port; gateway[$m]=$port
    logs[$m]=$work/logs/access-$m
    : >"${logs[$m]}"
    serve_with_"$server" "$m"
  done
  # shellcheck disable=SC2034 # the parts use it
  base=http://127.0.0.1:${gateway[m1]}/archive
  # shellcheck disable=SC2034
  base2=http://127.0.0.1:${gateway[m2]}/archive
}

serve_with_nginx() {
  mkdir -p "$work/site"
  ln -sfn "$work/tree" "$work/site/archive"
  printf 'daemon off; pid %s; error_log %s; events {}\nhttp { default_type application/octet-stream; access_log %s combined;\nserver { listen 127.0.0.1:%d; root %s; autoindex on; } }\n' \
    "$work/nginx-$1.pid" "$work/logs/nginx-$1.err" "${logs[$1]}" "${gateway[$1]}" "$work/site" >"$work/nginx-$1.conf"
  chmod 755 "$work" # its workers are not root
  start "nginx-$1" nginx -p "$work" -c "$work/nginx-$1.conf"
  until_true 10 "nginx answers" curl -sf "http://127.0.0.1:${gateway[$1]}/archive/"
}

serve_with_gateway() {
  join "$1" "$work/$1" "${ports[$1]}" "$address" --collection "$id" --gateway "127.0.0.1:${gateway[$1]}" \
    --gateway-url "http://127.0.0.1:${gateway[$1]}/" --allow-private --access-log "${logs[$1]}"
  until_true 120 "$1 complete" complete "$work/$1" "$id" "$release"
  until_true 10 "the gateway of $1 answers" curl -sf "http://127.0.0.1:${gateway[$1]}/archive/"
}

# change COMMAND...: changes the tree and waits until the gateways serve that. With nginx the tree is what is served.
change() {
  local m
  "$@" || die "the tree could not be changed"
  [[ $server == gateway ]] || return 0
  run second 120 "$SWARMNODE" publish "$work/tree" --home "$work/master" --name archive --json
  ((status == 0)) || die "the change was not published"
  release=$(published second release)
  for m in m1 m2; do until_true 60 "$m complete with release $release" complete "$work/$m" "$id" "$release"; done
}

start_master() {
  publish master "$work/tree" "$work/master" "$master_port" --name archive --gateway none
  wait_published master
}

# mark forgets what was asked so far; asked PATTERN... prints what was asked since, of both servers, that matches all patterns.
mark() { for m in m1 m2; do marked[$m]=$(wc -l <"${logs[$m]}"); done; }
asked() {
  local m p out
  sleep 0.3 # a log line follows the last byte
  out=$(for m in m1 m2; do tail -n "+$((marked[$m] + 1))" "${logs[$m]}" | sed "s/^/$m /"; done)
  for p in "$@"; do out=$(grep -E -- "$p" <<<"$out" || true); done
  [[ -n $out ]] && printf '%s\n' "$out"
}
# requests PATTERN...: how many.
requests() { asked "$@" | wc -l; }

# served prints the number of the release that the first gateway serves.
served() { curl -sSf "${base%/archive}/-/status.json" | jq -e '.collections[0].release'; }

# dying_server starts one whose connections end after 3 MB, as when a gateway is killed; sets dying to the archive's address there.
dying_server() {
  free_port
  start relay socat "TCP-LISTEN:$port,bind=127.0.0.1,fork,reuseaddr" "SYSTEM:socat - TCP\\:127.0.0.1\\:${gateway[m1]} | stdbuf -o0 head -c 3000000"
  dying=http://127.0.0.1:$port/archive
  until_true 10 "the relay answers" curl -sf -o /dev/null "$dying/"
}

both_listed() { [[ $(curl -sSf "$base/?mirrorlist" | wc -l) == 2 && $(curl -sSf "$base2/?mirrorlist" | wc -l) == 2 ]]; }
no_errors() { not asked '" 5[0-9][0-9] '; }
gateway_only() { [[ $server == gateway ]]; }

declare -A gateway logs marked ports
step "clients: $(apt-get --version | head -1), dnf $(dnf --version | head -1), $(zypper --version), $(pacman --version | grep -o 'Pacman v[0-9.]*'), $(zsync -V | head -1 | cut -d'(' -f1)"
archive
make_key
mkdir "$work/tree"
debian "$work/tree" v1
rpms "$work/tree" 1
arch "$work/tree" 1
image "$work/tree"
step "tree of $(mib "$(tree_bytes "$work/tree")")"
free_port; master_port=$port
for m in m1 m2; do free_port; ports[$m]=$port; done
if gateway_only; then start_master; fi
serve
if gateway_only; then stop TERM master; step "the master is off, two gateways serve release $release"; fi
if gateway_only; then until_true 120 "each gateway has found the other one right" both_listed; fi
mark

apt_story
dnf_story
zypper_story
pacman_story
zsync_story
if gateway_only; then cold_story; fi

# --- the release changes
if gateway_only; then start_master; fi
mark
mkdir "$work/old"
cp -a "$work/tree"/{repodata,packages,story} "$work/old"
second() { debian "$work/tree" v2 && rpms "$work/tree" 2 && arch "$work/tree" 2; }
change second
apt_second
dnf_second
zypper_second
pacman_second
if gateway_only; then apt_switch; fi
for m in m1 m2 master; do if [[ -n ${pid[$m]:-} ]]; then check "no stack trace from $m" no_trace "$m"; fi; done
finish
