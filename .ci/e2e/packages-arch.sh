# shellcheck shell=bash disable=SC2154
# pacman with a repository of repo-add, and zsync.

# pac ROOT SERVERS COMMAND...: pacman in a root of its own; SERVERS are addresses of archives, tried in this order, or a
# file that pacman includes.
pac() {
  local r=$work/pacman-$1 s
  mkdir -p "$r"/{var/lib/pacman,cache,hooks}
  {
    printf '[options]\nArchitecture = x86_64\nSigLevel = Required DatabaseOptional TrustAll\n[story]\n'
    [[ $2 != /* ]] || printf 'Include = %s\n' "$2"
    # shellcheck disable=SC2016 # pacman expands them
    for s in $2; do [[ $s == /* ]] || printf 'Server = %s/$repo/os/$arch\n' "$s"; done
  } >"$r.conf"
  shift 2
  timeout 120 pacman --config "$r.conf" --root "$r" --dbpath "$r/var/lib/pacman" --cachedir "$r/cache" --hookdir "$r/hooks" \
    --gpgdir "$GNUPGHOME" --logfile "$r/log" --noconfirm --noprogressbar "$@"
}

pacman_story() {
  local d=story/os/x86_64
  mark
  check "pacman -Sy" pac one "$base" -Sy
  check "pacman asked for the signature of the database" asked 'story.db.sig' '" 200 '
  check "pacman -S" pac one "$base" -S story
  check "what it installed is there" test -s "$work/pacman-one/usr/share/story/noise"
  check "pacman -Sy again" pac one "$base" -Sy
  check "it asks by If-Modified-Since" asked 'story.db HTTP' '" 304 '
  check "pacman's requests were answered" no_errors
  if gateway_only; then
    curl -sSf "$base/?mirrorlist=pacman" >"$work/servers"
    check "pacman -Sy with the gateway's mirror list" pac list "$work/servers" -Sy
  fi
  # A database without a signature is a 404 that pacman takes; anything else would stop it.
  check "a signature that is not there is 404" status_is 404 "$base/$d/story.files.sig.sig"

  # The first server dies in the middle: pacman must go on at the second, with what it has.
  dying_server
  mark
  check "pacman -Sw with a first server that dies" pac one "$dying $base2" -Sw big
  check "the package is the tree's" cmp "$work/pacman-one/cache/big-1:1-1-any.pkg.tar" "$work/tree/$d/big-1:1-1-any.pkg.tar"
  check "pacman got the rest from the second, with a 206" asked 'big-1(:|%3[aA])1-1-any.pkg.tar HTTP' '" 206 [1-6][0-9]{6} '
  stop TERM relay
}

pacman_second() {
  local d=story/os/x86_64
  mark
  if gateway_only; then
    rm -f "$work"/pacman-one/cache/*
    check "pacman with an old database still gets an old package" pac one "$base" -Sw big
    check "it is the old one" cmp "$work/pacman-one/cache/big-1:1-1-any.pkg.tar" "$work/old/story/os/x86_64/big-1:1-1-any.pkg.tar"
  fi
  # The file of the database has become older in the tree (arch in packages-tree.sh). pacman asks whether it was modified since.
  if ! gateway_only; then touch "$work/tree/$d"/story.db*; fi
  check "pacman -Syu after the change" pac one "$base" -Syu
  check "it got the new database" asked 'story.db HTTP' '" 200 '
  check "it installed the new one" test -e "$work/pacman-one/var/lib/pacman/local/story-1:2-1"
  check "the package that pacman got is the tree's" cmp "$work/pacman-one/cache/story-1:2-1-any.pkg.tar" "$work/tree/$d/story-1:2-1-any.pkg.tar"
}

# zsync_story: Debian's zsync 0.6.2 repeats a request for several ranges for ever when the body does not begin with an empty line.
zsync_story() {
  local n
  mark
  check "zsync makes the image from an older one" zsynced
  check "the image is the tree's" cmp "$work/image.iso" "$work/tree/sync/image.iso"
  n=$(requests 'image.iso HTTP')
  step "figure: zsync sent $n requests"
  check "zsync did not loop" test "$n" -ge 2 -a "$n" -le 100
  check "it was answered with ranges" asked 'image.iso HTTP' '" 206 '
}
zsynced() { (cd "$work" && timeout 60 zsync -q -i older.iso -o image.iso "$base/sync/image.iso.zsync"); }
