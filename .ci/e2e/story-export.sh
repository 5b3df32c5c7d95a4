#!/usr/bin/env bash
# A mirror whose content lies in a plain tree: nginx, an rsync daemon and apt use the tree while releases come and the mirror is
# killed in the midst of them. The content is on the disk once, and what somebody changes in the tree comes back.
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story story-export
free_port; master_port=$port
free_port; mirror_port=$port
free_port; nginx=127.0.0.1:$port
free_port; rsync_port=$port

# --- an archive: packages that are of one release, packages that stay, a long image, and the index
tree=$work/tree www=$work/www
mkdir -p "$tree/pool" "$tree/iso" "$tree/empty" "$work/deb/DEBIAN"
package() { # package NAME VERSION BYTES
  head -c "$3" /dev/urandom >"$work/deb/data"
  printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: a test\n' "$1" "$2" >"$work/deb/DEBIAN/control"
  dpkg-deb -Znone -b "$work/deb" "$tree/pool/$1_$2_all.deb" >/dev/null
}
index() { # the index comes last, as an archive makes it
  (cd "$tree" && apt-ftparchive packages pool >"$work/Packages" && mv "$work/Packages" Packages && apt-ftparchive release . >"$work/Release" && mv "$work/Release" Release)
}
next_release() { # next_release NUMBER: every other package is a new one
  local i
  rm -f "$tree"/pool/new*
  for i in {1..60}; do package "new$i" "$1" $((20000 + i * 3000)); done
  head -c 3000000 /dev/urandom >>"$tree/iso/image.iso"
  index
}
for i in {1..60}; do package "stays$i" 1 $((50000 + i * 5000)); done
head -c 150000000 /dev/urandom >"$tree/iso/image.iso"
ln -s iso/image.iso "$tree/latest.iso"
next_release 1

# --- nginx from Debian's package, unpacked and not installed, and an rsync daemon
mkdir -p "$E2E_CACHE/nginx" "$work/nginx" "$www"
(cd "$E2E_CACHE/nginx" && { compgen -G 'nginx_*.deb' && compgen -G 'nginx-common_*.deb' || apt-get -q download nginx nginx-common; }) \
  >"$work/logs/apt.out" 2>&1 || die "nginx could not be downloaded"
for deb in "$E2E_CACHE"/nginx/*.deb; do dpkg-deb -x "$deb" "$work/nginx/root"; done
cat >"$work/nginx/conf" <<EOF
daemon off; worker_processes 1; pid $work/nginx/pid; error_log $work/logs/nginx.err;
events {}
http {
  access_log off; sendfile on;
  client_body_temp_path $work/nginx/t; proxy_temp_path $work/nginx/t; fastcgi_temp_path $work/nginx/t; uwsgi_temp_path $work/nginx/t; scgi_temp_path $work/nginx/t;
  server { listen $nginx; root $www; location /.swarmnode { deny all; } }
}
EOF
printf 'use chroot = no\nlog file = %s\n[archive]\npath = %s\n' "$work/logs/rsyncd.out" "$www/archive" >"$work/rsyncd.conf"
start nginx "$work/nginx/root/usr/sbin/nginx" -c "$work/nginx/conf" -e "$work/logs/nginx.err" -g "user $(id -un);"

# by_apt ROUND: apt's own checks of size and hash, over HTTP
mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial" "$work/apt/dpkg"
: >"$work/apt/dpkg/status"
echo "deb [trusted=yes] http://$nginx/archive ./" >"$work/apt/sources.list"
apt_here=(-q -o Dir::Etc::sourcelist="$work/apt/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State="$work/apt" -o Dir::State::lists="$work/apt/lists"
  -o Dir::State::status="$work/apt/dpkg/status" -o Dir::Cache="$work/apt/cache" -o APT::Sandbox::User=root -o Acquire::Languages=none
  -o Acquire::Retries=3 -o Debug::NoLocking=1 -o APT::Update::Error-Mode=any)
by_apt() { apt-get "${apt_here[@]}" update && (cd "$work/apt/cache" && rm -f -- *.deb && apt-get "${apt_here[@]}" download stays7 new9); }
# named_is_there: every package that the index in the tree names is there with the right hash
named_is_there() {
  [[ -e $www/archive/Packages ]] || return 0
  awk '/^Filename:/ { f = $2 } /^SHA256:/ { print $2 "  " f }' "$www/archive/Packages" >"$work/sums"
  [[ -s $work/sums ]] && (cd "$www/archive" && sha256sum --quiet -c "$work/sums")
}
exported() { of "$work/mirror" "$id" "export | select(.release >= $1)"; } # exported RELEASE
# once: what home and tree take on the disk, against the bytes of the archive
once() { awk -v a="$(du -sB1 "$work/mirror" "$www" | awk '{ n += $1 } END { print n }')" -v b="$(tree_bytes "$tree")" 'BEGIN { printf "%.2f", a / b }'; }
mirror() { join mirror "$work/mirror" "$mirror_port" "$address" --no-mdns "$@"; }
publish_next() { run again 120 "$SWARMNODE" publish "$tree" --home "$work/master" --name archive --json; ((status == 0)); }

publish master "$tree" "$work/master" "$master_port" --name archive --no-mdns
wait_published master
mirror --export "$www" --disk 400MB
until_true 120 "release 1 is exported" exported 1
check "the tree is the release" same_tree "$tree" "$www/archive"
step "figure: the archive has $(mib "$(tree_bytes "$tree")"); home and exported tree take $(once) times that"
check "it is on the disk about once" at_most "$(once)" 1.15
check "apt is content with nginx over the tree" by_apt
start rsyncd rsync --daemon --no-detach --port "$rsync_port" --config "$work/rsyncd.conf"
until_true 10 "rsync answers" rsync -q "rsync://127.0.0.1:$rsync_port/archive/Release" "$work/"
check "an rsync of the tree succeeds" rsync -a "rsync://127.0.0.1:$rsync_port/archive/" "$work/copy/"
check "and is the release" same_tree "$tree" "$work/copy"
check "nothing unfinished is shown" test ! -e "$work/copy/.swarmnode"

# --- releases, with a reader all the time, and kills at any moment of the switch
watch_tree() { while named_is_there; do echo looked; sleep 0.02; done; sleep 1; named_is_there || echo wrong; }
watch_tree >"$work/logs/watch.out" 2>"$work/logs/watch.err" &
watcher=$!
for round in 2 3 4; do
  next_release "$round"
  publish_next || die "release $round was not published"
  for delay in 0.3 0.15 0.4 0.05; do
    sleep "$delay"
    stop KILL mirror
    mirror
    sleep 0.7
  done
  until_true 120 "release $round is exported" exported "$round"
done
check "at no moment the index named what was not there" test -z "$(grep wrong "$work/logs/watch.out" || true)"
check "the reader looked" grep -q looked "$work/logs/watch.out"
kill "$watcher" 2>/dev/null || true
for f in pool Packages Release iso latest.iso; do
  check "$f is that of the last release" test -z "$(rsync -ani --omit-dir-times --checksum "$tree/$f" "$www/archive/")"
done
check "apt is content" by_apt
step "figure: with three replaced releases within grace they take $(once) times the archive"
check "what was replaced takes what is different, not whole files" at_most "$(once)" 1.35

# --- damage: noticed, not served, put right
printf 'XXXX' | dd of="$www/archive/iso/image.iso" bs=1 seek=70000000 conv=notrunc status=none
rm "$www/archive/pool/stays7_1_all.deb"
run scrub 60 "$SWARMNODE" scrub --home "$work/mirror" --rate 1GB
until_true 90 "the image is right again" cmp "$tree/iso/image.iso" "$www/archive/iso/image.iso"
until_true 90 "the removed package is there again" cmp "$tree/pool/stays7_1_all.deb" "$www/archive/pool/stays7_1_all.deb"

# --- the tree is all there is: others get everything out of it
stop TERM master
other=$(address_of "$work/mirror")
check "a get from the mirror alone" got all "$id" "$work/out" "$other"
check "gives the release" same_tree "$tree" "$work/out"
check "no trace" no_trace mirror
stop TERM mirror
mkdir "$work/foreign" && echo mine >"$work/foreign/file"
run foreign 20 "$SWARMNODE" join --home "$work/other" --export "$work/foreign" --bootstrap "$address" --gateway none
check "a directory with other files is refused" says foreign "holds files that swarmnode has not put there"
finish
