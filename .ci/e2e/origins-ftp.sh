# shellcheck shell=bash disable=SC2154,SC2034
# FTP servers of origins: vsftpd (no MLSD: listings of ls) and pure-ftpd (MLSD), with and without TLS. They conflict as packages, so they are
# unpacked. One line of origin_log is one command.

# ftp_certificate makes the certificate that both show, and a file of the authority to believe.
ftp_certificate() {
  [[ ! -e $work/ftp.pem ]] || return 0
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=origin" -addext "subjectAltName=IP:$origin_host" \
    -keyout "$work/ftp.key" -out "$work/ftp.crt" 2>>"$work/logs/openssl.err"
  cat "$work/ftp.key" "$work/ftp.crt" >"$work/ftp.pem"
}

# serve_ftp NAME DIR: starts vsftpd, vsftpd-implicit (TLS from the first byte), pure-ftpd, or pure-ftpd-tls, which wants AUTH TLS of everybody.
serve_ftp() {
  origin_hides=()
  ftp_certificate
  case $1 in
    vsftpd*) serve_vsftpd "$@" ;;
    pure-ftpd*) serve_pure_ftpd "$@" ;;
  esac
  until_true 60 "$1 answers" answers "$origin_port"
}

serve_vsftpd() {
  local dir options=''
  dir=$(unpacked vsftpd)
  origin_port=2121
  origin_url=ftp://$origin_host:$origin_port/
  if [[ $1 == vsftpd-implicit ]]; then
    origin_port=9990 options='implicit_ssl=YES'
    origin_url=ftps://$origin_host:$origin_port/
  fi
  origin_log=$work/logs/$1.log
  : >>"$origin_log"
  mkdir -p "$work/nothing"
  cat >"$work/$1.conf" <<END
listen=YES
background=NO
listen_port=$origin_port
anonymous_enable=YES
no_anon_password=YES
ftp_username=daemon
nopriv_user=nobody
anon_root=$2
secure_chroot_dir=$work/nothing
force_dot_files=YES
max_per_ip=${ftp_per_ip:-8}
xferlog_enable=YES
log_ftp_protocol=YES
vsftpd_log_file=$origin_log
ssl_enable=YES
allow_anon_ssl=YES
rsa_cert_file=$work/ftp.pem
require_ssl_reuse=YES
$options
END
  serve "$1" "$dir/usr/sbin/vsftpd" "$work/$1.conf"
}

ftp_user=story ftp_password='p:a@ss-wörd'
serve_pure_ftpd() {
  local dir tls=1
  dir=$(unpacked pure-ftpd)
  origin_port=2122
  origin_url=ftp://$ftp_user@$origin_host:$origin_port/
  [[ $1 != pure-ftpd-tls ]] || tls=2 origin_url=ftpes://${origin_url#*://}
  origin_hides=(odd/back?slash) # it lists what it does not give; publish is told to leave it out
  origin_log=$work/logs/syslog.out
  : >>"$origin_log"
  # What pure-pw would make of the password takes a share of all memory and 11 s of a login; two at a time are refused for want of it.
  printf '%s:%s:65534:65534::%s/./::::::::::::\n' "$ftp_user" "$(openssl passwd -6 -stdin <<<"$ftp_password")" "$2" >"$work/ftp.passwd"
  "$dir/usr/bin/pure-pw" mkdb "$work/ftp.pdb" -f "$work/ftp.passwd"
  printf 'machine %s login %s password %s\n' "$origin_host" "$ftp_user" "$ftp_password" >"$work/netrc"
  chmod 600 "$work/netrc"
  serve "$1" "$dir/usr/sbin/pure-ftpd" -S "0.0.0.0,$origin_port" -l "puredb:$work/ftp.pdb" -E -A -D -H -u 1 -C 8 -d -Y $tls -L 100000:200 "--certfile=$work/ftp.crt,$work/ftp.key"
}

# One command is one line "FTP command" of vsftpd, "[DEBUG] Command" of pure-ftpd.
commands_ftp() { tail -n "+$((marked + 1))" "$origin_log" | grep -aE 'FTP command: Client|\[DEBUG\] Command' || true; }
mark_ftp() { sleep 0.3; marked=$(wc -l <"$origin_log"); }
requests_ftp() { sleep 0.3; commands_ftp | wc -l; }
files_ftp() { commands_ftp | grep -Eci '"RETR |\[retr\]' || true; }
