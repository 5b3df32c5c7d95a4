# shellcheck shell=bash disable=SC2154
# The tree of story-packages: one archive for four families of package managers, with signatures of a throw-away key.
#
#   dists, pool          Debian packages (of make-archive.sh), in three suites: "folders" has by-hash folders, "bare" announces
#                        by-hash and has no folders, "names" does not know by-hash
#   repodata, packages   a repository of createrepo_c
#   story/os             a repository of repo-add
#   sync                 an image with a .zsync file

export GNUPGHOME=$work/gnupg
key="Story <story@example.org>"

make_key() {
  mkdir -m 700 "$GNUPGHOME"
  gpg --batch --quiet --passphrase '' --quick-generate-key "$key" ed25519 sign never
  gpg --batch --export --armor "$key" >"$work/story.asc"
  gpg --batch --export "$key" >"$work/story.gpg"
  gpg --batch --quiet --check-trustdb 2>>"$work/logs/tree.err"
}

# signed FILE [ARGUMENT...]: makes a detached signature beside it.
signed() { gpg --batch --quiet --yes -u "$key" "${@:2}" --detach-sign "$1"; }

# suite TREE NAME ACQUIRE-BY-HASH FOLDERS HASHES...: the indexes of one suite over the pool.
suite() {
  local tree=$1 suite=$2 by_hash=$3 folders=$4 dir=dists/$2/main/binary-amd64 h f options=()
  shift 4
  for h in MD5 SHA1 SHA256 SHA512; do
    if [[ " $* " == *" $h "* ]]; then f=true; else f=false; fi
    options+=(-o "APT::FTPArchive::Release::$h=$f" -o "APT::FTPArchive::Packages::$h=true")
  done
  [[ $by_hash == no ]] || options+=(-o APT::FTPArchive::Release::Acquire-By-Hash=yes)
  (
    cd "$tree" || exit
    rm -rf "$dir"
    mkdir -p "$dir"
    apt-ftparchive --db "$work/ftparchive.db" packages pool >"$dir/Packages"
    xz -k "$dir/Packages"
    gzip -9nk "$dir/Packages"
    printf 'Archive: %s\nComponent: main\nArchitecture: amd64\n' "$suite" >"$dir/Release"
    rm -f "dists/$suite"/{Release,InRelease,Release.gpg}
    apt-ftparchive "${options[@]}" -o "APT::FTPArchive::Release::Suite=$suite" -o "APT::FTPArchive::Release::Codename=$suite" \
      -o APT::FTPArchive::Release::Origin=Story -o APT::FTPArchive::Release::Components=main \
      -o APT::FTPArchive::Release::Architectures=amd64 release "dists/$suite" >"$work/Release"
    mv "$work/Release" "dists/$suite/Release"
    gpg --batch --quiet --yes -u "$key" --clearsign -o "dists/$suite/InRelease" "dists/$suite/Release"
    signed "dists/$suite/Release" --armor -o "dists/$suite/Release.gpg"
    [[ $folders == yes ]] || return 0
    for f in "$dir"/Packages*; do
      for h in MD5Sum:md5sum SHA256:sha256sum SHA512:sha512sum; do
        mkdir -p "$dir/by-hash/${h%:*}"
        ln -f "$f" "$dir/by-hash/${h%:*}/$("${h#*:}" <"$f" | cut -d' ' -f1)"
      done
    done
  ) 2>>"$work/logs/tree.err"
}

suites() {
  suite "$1" folders yes yes MD5 SHA256 SHA512
  suite "$1" bare yes no MD5 SHA256
  suite "$1" names no no SHA256
}

# debian TREE STATE: the pool of the archive's v1 or v2, and package story in a version that is the state's number.
debian() {
  mkdir -p "$1/pool"
  rsync -a --delete "$E2E_CACHE/$2/pool/" "$1/pool/"
  story_deb "$1" "${2#v}"
  suites "$1"
}

# story_deb TREE N: package story 1.N instead of any other version, as an archive does that keeps only the newest.
story_deb() {
  local d=$work/deb
  rm -rf "$d"
  mkdir -p "$d/DEBIAN" "$d/usr/share/story" "$1/pool/main/s/story+ci"
  head -c 300000 /dev/urandom >"$d/usr/share/story/noise"
  printf 'Package: story\nVersion: 1.%d+b~1\nArchitecture: all\nMaintainer: %s\nDescription: a story\n' "$2" "$key" >"$d/DEBIAN/control"
  rm -f "$1"/pool/main/s/story+ci/*
  # apt asks for these characters encoded.
  dpkg-deb --root-owner-group -Znone -b "$d" "$1/pool/main/s/story+ci/story_1.$2+b~1_all.deb" >/dev/null
}

# rpms TREE N: packages story-N and big-N instead of any other version, and the repository's metadata.
rpms() {
  local top=$work/rpmbuild n size
  mkdir -p "$top" "$1/packages"
  rm -f "$1"/packages/*
  for n in story:100000 big:6000000; do
    size=${n#*:} n=${n%:*}
    {
      printf 'Name: %s\nVersion: %s\nRelease: 1\nSummary: a story\nLicense: none\nBuildArch: noarch\n' "$n" "$2"
      printf '%%description\nA story.\n%%install\nmkdir -p %%{buildroot}/usr/share/%s\n' "$n"
      printf 'head -c %d /dev/urandom >%%{buildroot}/usr/share/%s/noise\n%%files\n/usr/share/%s\n' "$size" "$n" "$n"
    } >"$top/$n.spec"
    rpmbuild --quiet --define "_topdir $top" --define "_rpmdir $1/packages" --define '_rpmfilename %%{NAME}-%%{VERSION}.rpm' \
      --define '_binary_payload w0.gzdio' -bb "$top/$n.spec" >>"$work/logs/tree.err" 2>&1
  done
  createrepo_c --quiet "$1" 2>>"$work/logs/tree.err"
  signed "$1/repodata/repomd.xml" --armor -o "$1/repodata/repomd.xml.asc"
}

# arch TREE N: the same for pacman. makepkg refuses to run as root; a package is a tar archive with a .PKGINFO.
arch() {
  local d=$work/arch n size dir=$1/story/os/x86_64
  rm -rf "$1/story"
  mkdir -p "$dir"
  for n in story:100000 big:9000000; do
    size=${n#*:} n=${n%:*}
    rm -rf "$d"
    mkdir -p "$d/usr/share/$n"
    head -c "$size" /dev/urandom >"$d/usr/share/$n/noise"
    printf 'pkgname = %s\npkgbase = %s\npkgver = 1:%d-1\npkgdesc = a story\nurl = none\nbuilddate = 1700000000\npackager = %s\nsize = %d\narch = any\nlicense = none\n' \
      "$n" "$n" "$2" "$key" "$size" >"$d/.PKGINFO"
    bsdtar -C "$d" --uid 0 --gid 0 -cf "$dir/$n-1:$2-1-any.pkg.tar" .PKGINFO usr
    signed "$dir/$n-1:$2-1-any.pkg.tar"
  done
  repo-add -q -s -k "$(gpg --list-keys --with-colons "$key" | awk -F: '/^fpr/ { print $10; exit }')" "$dir/story.db.tar.gz" "$dir"/*.pkg.tar \
    >>"$work/logs/tree.err" 2>&1
  rm -f "$dir"/*.old "$dir"/*.old.sig
  # A publisher whose files become older, as one whose master was replaced; see pacman_second.
  if (($2 > 1)); then touch -d 2020-01-01 "$dir"/story.db*; fi
}

# image TREE: an image of 24 MiB with its .zsync file, and beside the tree an older state of it: each 40th block differs, so that a
# client that has it asks for many small ranges.
image() {
  local i
  mkdir -p "$1/sync"
  head -c $((24 << 20)) /dev/urandom >"$1/sync/image.iso"
  cp "$1/sync/image.iso" "$work/older.iso"
  for ((i = 5; i < 6144; i += 40)); do
    head -c 100 /dev/zero | dd of="$work/older.iso" bs=1 seek=$((i * 4096)) conv=notrunc status=none
  done
  zsyncmake -b 4096 -u image.iso -o "$1/sync/image.iso.zsync" "$1/sync/image.iso" 2>>"$work/logs/tree.err"
}
