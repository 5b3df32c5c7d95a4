# shellcheck shell=bash disable=SC2154,SC2016
# What the stories of origins share: a network namespace that the server of an origin lives in, so that what crosses the wire is
# counted by the kernel and the server can be killed with all its children; the tree that it serves; what a mirror of it must
# have; and the steps that every protocol goes through.

# --- the other machine: one network namespace, $origin_host is its address ----------------------------------------------

far=swo-$$
made_far=

# far_up makes it. The address is one of those that networks are measured with: nobody's LAN has it.
far_up() {
  local net=198.18.$slot l
  for l in $(ip -o addr show to "$net.0/30" | awk '{ print $2 }'); do ip link del "${l%@*}" || true; done # of a story that was killed
  ip netns add "$far" || die "a network namespace could not be made: root is needed"
  made_far=1
  ip link add "swo$$" type veth peer name eth0 netns "$far"
  ip addr add "$net.1/30" dev "swo$$"
  ip link set "swo$$" up
  ip -n "$far" addr add "$net.2/30" dev eth0
  ip -n "$far" link set eth0 up
  ip -n "$far" link set lo up
  origin_host=$net.2
  mkdir -p "$work/dev" "$work/outside"
  start syslog perl -MIO::Socket::UNIX -e '$| = 1; $s = IO::Socket::UNIX->new(Local => shift, Type => SOCK_DGRAM) or die $!; while (defined $s->recv($b, 65536)) { print "$b\n" }' "$work/syslog"
  until_true 30 "a syslog" test -S "$work/syslog"
  chmod 666 "$work/syslog"
  chmod 755 "$work" # workers of servers are not root
}

# far_down ends it; lib.sh knows nothing of it, so the trap is ours first.
far_down() {
  [[ -n $made_far ]] || return 0
  far_kill
  ip netns del "$far" 2>/dev/null
  ip link del "swo$$" 2>/dev/null
  made_far=
}
trap 's=$?; set +e; far_down; ended $s' EXIT

# serve NAME COMMAND...: starts a server over there, with /dev/log, /run and /tmp of its own.
serve() {
  local n=$1-server
  serving=$n
  shift
  start "$n" ip netns exec "$far" unshare -m bash -ec '
    w=$1; shift
    mount -t tmpfs none "$w/dev"
    for d in null zero random urandom; do touch "$w/dev/$d"; mount --bind "/dev/$d" "$w/dev/$d"; done
    ln -s "$w/syslog" "$w/dev/log"
    mount --rbind "$w/dev" /dev
    mount -t tmpfs -o mode=755 none /run
    mkdir /run/sshd
    exec "$@"' serve "$work" "$@"
}

# far_kill ends all that runs there, with kill -9: workers of a server outlive its first process.
far_kill() {
  local p
  for p in $(ip netns pids "$far" 2>/dev/null); do kill -KILL "$p" 2>/dev/null || true; done # one can end by itself meanwhile
  [[ -z ${serving:-} ]] || reap "$serving"
  serving=
}

# answers PORT: somebody accepts connections there.
answers() { timeout 2 bash -c "exec 3<>/dev/tcp/$origin_host/$1"; }

# from_origin is how many bytes have come from there so far.
from_origin() { cat "/sys/class/net/swo$$/statistics/rx_bytes"; }

# unpacked PACKAGE: the directory where Debian's package is unpacked and not installed: servers that conflict, or that would be started
# by being installed.
unpacked() {
  local dir=$E2E_CACHE/unpacked/$1
  if [[ ! -e $dir/usr ]]; then
    (
      flock 9
      [[ ! -e $dir/usr ]] || exit 0
      rm -rf "$dir.new"
      mkdir -p "$dir.new" && cd "$dir.new" && apt-get -q -o APT::Sandbox::User=root download "$1" && dpkg-deb -x "$1"_*.deb . && rm -f -- *.deb && mv "$dir.new" "$dir"
    ) 9>"$E2E_CACHE/unpacked.lock" >"$work/logs/unpacked.out" 2>&1 || die "$1 could not be had"
  fi
  printf '%s\n' "$dir"
}

# --- the tree -------------------------------------------------------------------------------------------------------------

noise() { openssl enc -aes-128-ctr -nosalt -K "000102030405060708090a0b0c0d0e0f" -iv "$1" </dev/zero 2>/dev/null | head -c "$2" || true; }
image_bytes=$((256 << 20))

# origin_tree DIR: at least 1,000 files, odd names, empty things, one file of 256 MiB, symlinks.
origin_tree() {
  local t=$1 d i
  mkdir -p "$t/pool" "$t/odd" "$t/large" "$t/links" "$t/empty directory" "$t/deep/$(printf '%d/' {1..40})" "$t/odd/two  words & more; [1] #2?"
  for d in {10..59}; do
    mkdir "$t/pool/$d"
    noise "$d" 120000 | (cd "$t/pool/$d" && split -a 2 -d -b 6000 - package_1.0+dfsg-)
  done
  for i in 'two  words' '100%25 %2F %s %00.txt' '#hash' 'question?x=1&y=2' "it's <b>\"quoted\"<b>" 'a+b=c' 'žluťoučký kůň 日本語 🐧.txt' '-rf' \
    '?C=N;O=D' '?C=M&O=A' 'Parent Directory' 'index.html' 'index.json' 'name~' '~user' 'README' 'HEADER.html' 'a:b' 'http:' 'semi;colon' 'x, 1 -> y' '$HOME `x` & | !' \
    '{}' '^' 'back\slash' '(1)' '@' '*' 'Makefile.' 'a&amp;b' '&lt;' 'UPPER' 'upper' 'total 12' '..x' '...' '.hidden' '.htaccess.txt'; do
    printf '%s\n' "$i" >"$t/odd/$i"
  done
  printf '0%.0s' {1..250} >"$t/odd/$(printf 'n%.0s' {1..255})"
  printf 'e%.0s' {1..50} >"$t/odd/$(printf 'é%.0s' {1..100}).txt"
  echo inside >"$t/odd/two  words & more; [1] #2?/100% inside"
  : >"$t/odd/empty"
  : >"$t/empty"
  echo end >"$t/deep/$(printf '%d/' {1..40})end"
  noise 99 "$image_bytes" >"$t/large/image.iso"
  printf '#!/bin/sh\n' >"$t/run.sh"
  # Times: old ones, one of before 1980, and each with its seconds.
  find "$t" -type f -exec touch -d '2024-05-06 07:08:09' {} +
  find "$t/pool/1"? -type f -exec touch -d '-40 days' {} +
  touch -d '1979-03-01 12:00:01' "$t/empty"
  chmod 755 "$t" "$t/run.sh"
  chmod 444 "$t/pool/20/package_1.0+dfsg-00"
  # The link that leads out points at a file that exists: whoever follows it shows what he should not.
  echo secret >"$work/outside/secret"
  touch -d '2024-05-06 07:08:09' "$work/outside/secret"
  ln -s ../pool/10 "$t/links/directory"
  ln -s ../run.sh "$t/links/inside"
  ln -s missing "$t/links/dangling"
  ln -s . "$t/links/loop"
  ln -s ../../outside/secret "$t/links/out"
  ln -s /etc/hostname "$t/links/absolute"
}

# changed_tree DIR: what a day at an archive does to it. Files are replaced, not written into: other trees have hard links to them.
changed_tree() {
  local t=$1 d
  for d in 11 12 13 14 15; do replace "$t/pool/$d/package_1.0+dfsg-03" "7$d" 9000; done
  replace "$t/pool/16/package_1.0+dfsg-04" 801 6000 # the same size
  mkdir -p "$t/added/à la carte"
  replace "$t/added/à la carte/100% new" 802 300000
  : >"$t/added/empty"
  rm -rf "$t/pool/17" "$t/odd/#hash" "$t/pool/18/package_1.0+dfsg-00"
  mv "$t/pool/19" "$t/pool/renamed & moved"
  mv "$t/odd/a+b=c" "$t/odd/c=a+b"
  rm "$t/pool/21/package_1.0+dfsg-05"
  mkdir "$t/pool/21/package_1.0+dfsg-05" # a file becomes a directory
  echo dir >"$t/pool/21/package_1.0+dfsg-05/file"
}
replace() { noise "$2" "$3" >"$1.new" && mv "$1.new" "$1"; }
changed_files=$((6 + 2 + 20 + 1 + 1)) # what must be fetched of it, where a renamed file is another one

# early waits until the current minute has some seconds left.
next_second() { (($(date +%s) > $(stat -c %Y "$1"))); }
early() { (($(date +%-S) < 50)); }

# tree_list DIR [times] [minutes] [modes]: a line for each path: what it is, and of files what was asked for.
tree_list() {
  local dir=$1 times='' modes=''
  shift
  [[ " $* " != *" times "* ]] || times=' %Ts'
  [[ " $* " != *" minutes "* ]] || times=' %TY-%Tm-%Td+%TH:%TM'
  [[ " $* " != *" modes "* ]] || modes=' %m'
  find "$dir" -mindepth 1 \( -type d -printf 'd %P\0' -o -type l -printf 'l %l %P\0' -o -type f -printf "f %s$times$modes %P\0" \) | tr '\0' '\n' | LC_ALL=C sort
}

# as_seen TREE OUT KIND [PATTERN...]: makes OUT what a server of that kind shows of the tree: "links" as they are, without those that lead
# out; "rooted", where an absolute target begins at the top of what the server shows; or "followed" by the server. Patterns are what it hides. Files are hard links.
as_seen() {
  local tree=$1 out=$2 kind=$3 p args=()
  shift 3
  for p in "$@"; do args+=(--exclude "$p"); done
  rm -rf "$out"
  mkdir "$out"
  if [[ $kind == followed ]]; then
    rsync -a "${args[@]}" --exclude /links --link-dest="$tree" "$tree/" "$out/"
    mkdir "$out/links"
    rsync -aL "${args[@]}" --exclude /loop --exclude /dangling --exclude /absolute "$tree/links/" "$out/links/"
    cp -p "$tree/links/absolute" "$out/links/absolute"
  elif [[ $kind == rooted ]]; then
    rsync -a "${args[@]}" --exclude /links/out --exclude /links/absolute --link-dest="$tree" "$tree/" "$out/"
    ln -s ../etc/hostname "$out/links/absolute"
  else
    rsync -a "${args[@]}" --exclude /links/out --exclude /links/absolute --link-dest="$tree" "$tree/" "$out/"
  fi
}

# exact WANTED GOT WHAT...: both hold the same.
exact() {
  local a=$1 b=$2
  shift 2
  { diff <(tree_list "$a" "$@") <(tree_list "$b" "$@") || true; diff -rq --no-dereference "$a" "$b" || true; } | head -30 >"$work/logs/differences"
  cat "$work/logs/differences"
  [[ ! -s $work/logs/differences ]]
}

# --- what we assume of the program, for origins -------------------------------------------------------------------------------

# origin_master NAME URL [FLAG...]: a master that follows an origin, in its home $work/NAME-home; it looks again when it is told to.
origin_master() {
  local n=$1 url=$2
  shift 2
  rm -f "$work/logs/$n.out"
  start "$n" "$SWARMNODE" publish --from "$url" --name "$n" --every 1h --from-private --home "$work/$n-home" --listen "/ip4/127.0.0.1/tcp/$master_port" \
    --json --gateway none --contact story@example.org ${origin_flags[@]+"${origin_flags[@]}"} "$@"
}

# again NAME: makes the running master look at its origin now, and waits for what comes of it: its answer is in logs/again.out.
again() { run again 300 "$SWARMNODE" publish --now "$1" --home "$work/$1-home" --json; }
again_says() { [[ -s $work/logs/again.out ]] && jq -er "$1" "$work/logs/again.out"; }

# follows NAME RELEASE: that release comes, at once or when the master tries again: what is seconds old may not hold still for it yet.
follows() {
  local end=$((SECONDS + 120))
  until [[ $(of "$work/$1-home" "$id" release) == "$2" ]]; do ((SECONDS < end)) || { cat "$work/logs/again.out" "$work/logs/again.err"; return 1; }; sleep 0.1; done
}

# --- the steps of every protocol ----------------------------------------------------------------------------------------------

# origin_story NAME PROTOCOL KIND WHAT...: serve_PROTOCOL is called with NAME and a directory, and requests_PROTOCOL and files_PROTOCOL count. KIND
# is of as_seen, WHAT of tree_list. Needs $work/tree.
origin_story() {
  local n=$1 protocol=$2 kind=$3
  shift 3
  origin_tree_copy "$n"
  "serve_$protocol" "$n" "$origin_dir"
  free_port; master_port=$port
  free_port; mirror_port=$port
  first_run "$n" "$protocol" "$kind" "$@"
  unchanged_run "$n" "$protocol"
  changed_run "$n" "$protocol" "$kind" "$@"
  [[ -n ${SKIP_KILL:-} ]] || killed_run "$n" "$protocol" "$kind" "$@"
  check "$n: no stack trace" no_trace "$n"
  stop TERM "$n-mirror"
  stop TERM "$n"
  far_kill
  rm -rf "$work/$n-home" "$work/$n-mirror" "$work/${n:?}" "$work/seen" "$work/got"
}

# origin_tree_copy NAME: sets origin_dir, where NAME serves a tree of its own: hard links, so nobody writes into its files.
origin_tree_copy() {
  origin_dir=$work/$1/tree
  mkdir -p "$work/$1/outside"
  cp -al "$work/outside/." "$work/$1/outside/"
  cp -al "$work/tree" "$origin_dir"
}

# right_at_mirror NAME KIND WHAT...: what the mirror serves is what the origin shows.
right_at_mirror() {
  local n=$1 kind=$2
  shift 2
  until_true 180 "the mirror of $n complete with release $release" complete "$work/$n-mirror" "$id" "$release"
  as_seen "$origin_dir" "$work/seen" "$kind" "${origin_hides[@]}"
  rm -rf "$work/got" "$work/get-got"
  got got "$id" "$work/got" "$(address_of "$work/$n-mirror")" 180 && exact "$work/seen" "$work/got" "$@"
}

first_run() {
  local n=$1 protocol=$2 kind=$3 start_time bytes
  shift 3
  "mark_$protocol"
  start_time=$(seconds) bytes=$(from_origin)
  origin_master "$n" "$origin_url"
  wait_published "$n" 300
  told "$n" first "$protocol" "$start_time" "$bytes"
  tree_size=$(tree_bytes "$origin_dir")
  home_size=$(($(du -s --block-size=1 "$work/$n-home" | cut -f1)))
  step "$n: home of $(mib "$home_size") for a tree of $(mib "$tree_size")"
  check "$n: the site is on the master's disk once" at_most "$home_size" $((tree_size * 105 / 100 + (16 << 20)))
  join "$n-mirror" "$work/$n-mirror" "$mirror_port" "$address" --collection "$id"
  check "$n: the mirror has it byte for byte" right_at_mirror "$n" "$kind" "$@"
  directories=$(find "$work/seen" -type d | wc -l)
}

# told NAME RUN PROTOCOL BEGAN BYTES: prints what a run took.
told() {
  local took
  took=$(since "$4")
  requests=$("requests_$3") files=$("files_$3")
  step "figure: $1: $2 run: $took s, $requests requests, $files of them for files, $(mib $(($(from_origin) - $5)))"
}

unchanged_run() {
  local n=$1 protocol=$2 start_time bytes
  "mark_$protocol"
  start_time=$(seconds) bytes=$(from_origin)
  again "$n"
  check "$n: looking again ends well" test "$status" = 0
  told "$n" unchanged "$protocol" "$start_time" "$bytes"
  check "$n: no new release of what has not changed" again_says ".release == $release"
  check "$n: no file is fetched again" test "$files" = 0
  check "$n: about one request a directory: $requests for $directories" at_most "$requests" $((${per_directory:-1} * directories * 12 / 10 + 20))
}

changed_run() {
  local n=$1 protocol=$2 kind=$3 start_time bytes
  shift 3
  changed_tree "$origin_dir"
  until_true 15 "a minute that is young" early
  echo "version 1" >"$origin_dir/odd/minute"
  "mark_$protocol"
  start_time=$(seconds) bytes=$(from_origin)
  again "$n"
  check "$n: the change is published" follows "$n" $((release + 1))
  told "$n" changed "$protocol" "$start_time" "$bytes"
  check "$n: what changed is fetched and nothing else: $files files" test "$files" -ge $changed_files -a "$files" -le $((changed_files * 2))
  # The same size and the same minute, which is all that some listings tell; two in one second nobody can tell from one.
  until_true 5 "the next second" next_second "$origin_dir/odd/minute"
  echo "version 2" >"$origin_dir/odd/minute.new"
  mv "$origin_dir/odd/minute.new" "$origin_dir/odd/minute"
  again "$n"
  check "$n: a file replaced in the same minute by one as long is noticed" follows "$n" $((release + 2))
  release=$((release + 2))
  # The run with the kill compares it again.
  [[ -z ${SKIP_KILL:-} ]] || check "$n: the mirror has the change byte for byte" right_at_mirror "$n" "$kind" "$@"
}

# killed_run: the large file is another one; in the middle of it the server is killed, and comes back.
killed_run() {
  local n=$1 protocol=$2 kind=$3 bytes start_time
  shift 3
  stop TERM "$n"
  replace "$origin_dir/large/image.iso" 98 "$image_bytes"
  touch -d '-5 minutes' "$origin_dir/large/image.iso" # no listing vouches for what is seconds old, and so it would be fetched twice
  bytes=$(from_origin)
  origin_master "$n" "$origin_url" --rate 800Mbit
  until_true 120 "half of the large file has come" come $((bytes + image_bytes / 2))
  check "$n: the release is not there yet" not published_above "$n" "$release"
  far_kill
  came=$(($(from_origin) - bytes))
  start_time=$(seconds)
  "serve_$protocol" "$n" "$origin_dir"
  until_true 180 "$n published after the server came back" published_above "$n" "$release"
  step "figure: $n: killed after $(mib "$came"), $(since "$start_time") s later published; $(mib $(($(from_origin) - bytes - image_bytes))) more than the file came over the wire"
  check "$n: it went on where it was cut" at_most $(($(from_origin) - bytes)) $((image_bytes * 115 / 100 + (8 << 20)))
  release=$(of "$work/$n-home" "$id" release)
  check "$n: the mirror has it byte for byte after the kill" right_at_mirror "$n" "$kind" "$@"
}
come() { (($(from_origin) >= $1)); }
published_above() { local r; r=$(published "$1" release) && ((r > $2)); }
