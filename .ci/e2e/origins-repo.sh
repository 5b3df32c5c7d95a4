# shellcheck shell=bash disable=SC2154,SC2034
# Repositories as their owners make them, signed with a throw-away key: an apt archive as a distribution has it, made by reprepro of the real packages of
# make-archive.sh; one as a company has it, made by aptly; and the forms that createrepo_c knows.

key_id() { gpg --list-keys --with-colons "$key" | awk -F: '/^fpr/ { print $10; exit }'; }

# apt_repository DIR: all packages of the first state, and package story 1.1; needs make_key.
apt_repository() {
  local d=$1
  mkdir -p "$d/conf"
  printf 'Codename: story\nSuite: stable\nOrigin: Story\nArchitectures: amd64\nComponents: main\nSignWith: %s\n' \
    "$(key_id)" >"$d/conf/distributions"
  find "$E2E_CACHE/v1/pool" -name '*.deb' -print0 | xargs -0 reprepro --ignore=wrongdistribution -b "$d" includedeb story >>"$work/logs/reprepro.out" 2>&1
  upload "$d" 1
}

# upload DIR N: package story in version 1.N, as its maintainer uploads it; reprepro removes the one before.
upload() {
  rm -rf "$work/upload"
  mkdir "$work/upload"
  story_deb "$work/upload" "$2"
  reprepro -S misc -P optional -b "$1" includedeb story "$(find "$work/upload" -name '*.deb')" >>"$work/logs/reprepro.out" 2>&1
  chmod -R a+rX "$1"
}

# aptly_repository DIR: package story 1.1 and fifty others, with names by hash. What aptly serves is DIR/public.
aptly_repository() {
  local debs
  mkdir -p "$1"
  printf '{"rootDir": "%s", "gpgProvider": "gpg2"}\n' "$1" >"$1.conf"
  mapfile -t debs < <(find "$E2E_CACHE/v1/pool" -name '*.deb' | LC_ALL=C sort | sed 50q)
  aptly_run "$1" repo create -distribution=story -component=main story
  aptly_run "$1" repo add story "${debs[@]}"
  aptly_story "$1" 1
  aptly_run "$1" publish repo -batch -acquire-by-hash -gpg-key="$(key_id)" -origin=Story -architectures=amd64 story
  chmod -R a+rX "$1"
}
aptly_run() {
  local d=$1
  shift
  aptly -config="$d.conf" "$@" >>"$work/logs/aptly.out" 2>&1
}

# aptly_story DIR N: package story in version 1.N instead of the one before, not published yet.
aptly_story() {
  rm -rf "$work/upload"
  mkdir "$work/upload"
  story_deb "$work/upload" "$2"
  aptly_run "$1" repo remove story story
  aptly_run "$1" repo add story "$work/upload"
}

# aptly_upload DIR N: the same, and published.
aptly_upload() {
  aptly_story "$@"
  aptly_run "$1" publish update -batch -gpg-key="$(key_id)" story
  chmod -R a+rX "$1"
}

# tales DIR: ten more packages of 6 MiB for an apt archive, all at once, as a rebuild uploads them.
tale_count=10 tale_bytes=$((6 << 20))
tales() {
  local d=$work/tale out=$work/upload i
  rm -rf "$out"
  mkdir "$out"
  for i in $(seq "$tale_count"); do
    rm -rf "$d"
    mkdir -p "$d/DEBIAN" "$d/usr/share/tale-$i"
    noise "5$i" "$tale_bytes" >"$d/usr/share/tale-$i/noise"
    printf 'Package: tale-%d\nVersion: 1\nArchitecture: all\nSection: misc\nPriority: optional\nMaintainer: %s\nDescription: a tale\n' "$i" "$key" >"$d/DEBIAN/control"
    dpkg-deb --root-owner-group -Znone -b "$d" "$out/tale-${i}_1_all.deb" >/dev/null
  done
  reprepro -b "$1" includedeb story "$out"/*.deb >>"$work/logs/reprepro.out" 2>&1
  chmod -R a+rX "$1"
}

# rpm_tales DIR: the same for an rpm repository, whose metadata are made anew by rpm_form.
rpm_tales() { rpm_many "$1" tale 1 "$tale_count" "$tale_bytes"; }

# rpm_many DIR NAME VERSION COUNT BYTES: packages NAME-1, NAME-2 and so on, each with so many bytes of its own.
rpm_many() {
  local top=$work/rpmbuild i n
  mkdir -p "$top" "$1/packages"
  {
    printf 'Name: %s\nVersion: %s\nRelease: 1\nSummary: tales\nLicense: none\nBuildArch: noarch\n%%description\nTales.\n' "$2" "$3"
    for i in $(seq "$4"); do
      n=$2-$i
      printf '%%package -n %s\nSummary: a tale\n%%description -n %s\nA tale.\n%%files -n %s\n/usr/share/%s\n' "$n" "$n" "$n" "$n"
    done
    printf '%%install\n'
    for i in $(seq "$4"); do
      n=$2-$i
      noise "$(printf '6%s%04d' "$3" "$i")" "$5" >"$work/noise-$n"
      printf 'mkdir -p %%{buildroot}/usr/share/%s\nmv %s %%{buildroot}/usr/share/%s/noise\n' "$n" "$work/noise-$n" "$n"
    done
  } >"$top/$2.spec"
  rpmbuild --quiet --define "_topdir $top" --define "_rpmdir $1/packages" --define '_rpmfilename %%{NAME}-%%{VERSION}.rpm' \
    --define '_binary_payload w0.gzdio' -bb "$top/$2.spec" >>"$work/logs/tree.err" 2>&1
}

# rpm_repository DIR: 350 packages of 128 KiB, and package upload-1 in version 1; needs make_key.
rpm_repository() {
  rpm_many "$1" many 1 350 $((128 << 10))
  rpm_upload "$1" 1
}

# rpm_upload DIR N: package upload-1 in version N instead of the one before.
rpm_upload() {
  rm -f "$1"/packages/upload-*
  rpm_many "$1" upload "$2" 1 300000
  rpm_form "$1" gz
}

# rpm_form DIR FORM: makes the metadata of the packages there anew: "gz" as it is usual; "xz" with databases of SQLite, groups, advisories and a module; "bz2" under names
# without hashes and with longer hashes; "zst", which createrepo_c of Debian does not make, so that it is packed here; "zck" as in Fedora, zchunk files
# beside those of gzip.
rpm_form() {
  local d=$1
  rm -rf "$d/repodata"
  case $2 in
    gz) createrepo_c --quiet "$d" ;;
    xz)
      extras "$work/extras"
      createrepo_c --quiet --xz --general-compress-type=xz --database --groupfile "$work/extras/comps.xml" "$d"
      modifyrepo_c --mdtype=updateinfo "$work/extras/updateinfo.xml" "$d/repodata"
      modifyrepo_c --mdtype=modules "$work/extras/modules.yaml" "$d/repodata"
      ;;
    bz2) createrepo_c --quiet --general-compress-type=bz2 --simple-md-filenames --checksum sha512 "$d" ;;
    zst) createrepo_c --quiet --simple-md-filenames "$d" && as_zstd "$d/repodata" ;;
    zck) createrepo_c --quiet --zck "$d" ;;
  esac >>"$work/logs/createrepo.out" 2>&1
  signed "$d/repodata/repomd.xml" --armor -o "$d/repodata/repomd.xml.asc"
  chmod -R a+rX "$d"
}

# as_zstd REPODATA: packs primary, filelists and other once more, and says so in repomd.xml.
as_zstd() {
  local t old new
  for t in primary filelists other; do
    old=$(sha256sum <"$1/$t.xml.gz" | cut -d' ' -f1)
    gzip -dc "$1/$t.xml.gz" | zstd -q -o "$1/$t.xml.zst"
    new=$(sha256sum <"$1/$t.xml.zst" | cut -d' ' -f1)
    sed -i "s/$old/$new/; s|repodata/$t.xml.gz|repodata/$t.xml.zst|; s|<size>$(stat -c %s "$1/$t.xml.gz")</size>|<size>$(stat -c %s "$1/$t.xml.zst")</size>|" "$1/repomd.xml"
    rm "$1/$t.xml.gz"
  done
}

# extras DIR: groups, an advisory and a module of the packages of rpms.
extras() {
  mkdir -p "$1"
  cat >"$1/comps.xml" <<'END'
<?xml version="1.0" encoding="UTF-8"?>
<comps><group><id>tales</id><name>Tales</name><description>Tales.</description><default>true</default><uservisible>true</uservisible>
<packagelist><packagereq type="mandatory">story</packagereq></packagelist></group></comps>
END
  cat >"$1/updateinfo.xml" <<'END'
<?xml version="1.0" encoding="UTF-8"?>
<updates><update from="story@example.org" status="final" type="security" version="1"><id>STORY-2026-1</id><title>story</title><issued date="2026-11-23 00:00:00"/><severity>Important</severity>
<description>A story.</description><pkglist><collection short="s"><name>s</name><package name="story" version="9" release="1" epoch="0" arch="noarch"><filename>story-9.rpm</filename></package></collection></pkglist></update></updates>
END
  cat >"$1/modules.yaml" <<'END'
---
document: modulemd
version: 2
data:
  name: tales
  stream: "1"
  version: 1
  context: c0ffee00
  arch: noarch
  summary: Tales
  description: >-
    Tales.
  license:
    module: [MIT]
  profiles:
    default:
      rpms: [story]
  artifacts:
    rpms: []
...
END
}
