#!/usr/bin/env bash
# The same as story-origin-http with vsftpd, which knows listings of ls only, and pure-ftpd, which knows MLSD, each in plain FTP and over TLS: vsftpd
# from the first byte, pure-ftpd for who asks. vsftpd wants data connections that resume the TLS session of their control connection.
#
# ORIGINS="vsftpd" are the servers; all by default, and those without TLS before those with.
# shellcheck disable=SC2154,SC2034 # what origins.sh sets and uses
set -eu
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story story-origin-ftp
for part in origins origins-ftp; do
  # shellcheck disable=SC1090 # each is checked by itself
  source "$here/$part.sh"
done
far_up
origin_tree "$work/tree"
ftp_certificate
step "tree of $(mib "$(tree_bytes "$work/tree")") in $(find "$work/tree" -type f | wc -l) files and $(find "$work/tree" -type d | wc -l) directories"
per_directory=3 # CWD, EPSV, LIST
for server in ${ORIGINS:-vsftpd pure-ftpd vsftpd-implicit pure-ftpd-tls}; do
  # TLS changes what carries the commands, and not what they are: once is enough for the kill, and for 256 MiB.
  unset SKIP_KILL
  if [[ $server == *-implicit || $server == *-tls ]]; then
    export SKIP_KILL=1
    replace "$work/tree/large/image.iso" 97 $((16 << 20))
    touch -d '2024-05-06 07:08:09' "$work/tree/large/image.iso"
  fi
  case $server in
    vsftpd) origin_flags=() ;;
    vsftpd-implicit) origin_flags=(--ca-cert "$work/ftp.crt") ;;
    pure-ftpd*) origin_flags=(--ca-cert "$work/ftp.crt" --netrc "$work/netrc" --exclude 'odd/back?slash') ;;
  esac
  origin_story "$server" ftp rooted times modes
done
finish
