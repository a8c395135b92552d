#!/bin/sh
# Certificates for an MQTT broker and its clients, by openssl. Each call makes one, and never a second time:
#
#   make-certificates.sh FOLDER ca "acme MQTT"                                the authority; keep ca.key away
#   make-certificates.sh FOLDER broker mqtt.acme.example 192.168.7.10         each name that clients call it by
#   make-certificates.sh FOLDER client acme/dresden/assembly/line-3/cell-2    a rig: the five levels of `rig:`
#   make-certificates.sh FOLDER client dashboard                              anybody else
#
# DAYS=… sets for how long (default: authority 3650, others 825).
set -eu

fail() {
    echo "make-certificates.sh: $*" >&2
    exit 1
}

[ $# -ge 3 ] || fail "usage: make-certificates.sh FOLDER ca|broker|client NAME…; see the head of this file"
folder=$1
kind=$2
shift 2
[ "${#1}" -le 64 ] || fail "$1: a certificate's name has at most 64 characters; use passwords for this one"
case "$1" in
    *[+#]*) fail "$1: + and # are wildcards of MQTT" ;;
esac
umask 077
mkdir -p "$folder"
cd "$folder"

subject=/CN=$(printf %s "$1" | sed 's/[\\/]/\\&/g')
case "$kind" in
    ca) file=ca ;;
    broker) file=broker ;;
    client) file=$(printf %s "$1" | tr / _) ;;
    *) fail "$kind: ca, broker or client" ;;
esac
[ ! -e "$file.pem" ] || fail "$folder/$file.pem: is there already; move it away to make a new one"
openssl ecparam -name prime256v1 -genkey -noout -out "$file.key"

if [ "$kind" = ca ]; then
    openssl req -x509 -new -key ca.key -days "${DAYS:-3650}" -subj "$subject" -out ca.pem \
        -addext "keyUsage=critical,keyCertSign,cRLSign"
    exit 0
fi

[ -f ca.key ] || fail "$folder/ca.key: is not there; make the authority first"
if [ "$kind" = broker ]; then
    usage=serverAuth
    names=
    for name; do
        case "$name" in
            *[!0-9.]*) names="$names,DNS:$name" ;;
            *) names="$names,IP:$name" ;;
        esac
    done
else
    usage=clientAuth
    names=
fi
{
    echo "basicConstraints=CA:FALSE"
    echo "keyUsage=critical,digitalSignature"
    echo "extendedKeyUsage=$usage"
    [ -z "$names" ] || echo "subjectAltName=${names#,}"
} > "$file.ext"
openssl req -new -key "$file.key" -subj "$subject" -out "$file.csr"
openssl x509 -req -in "$file.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days "${DAYS:-825}" \
    -extfile "$file.ext" -out "$file.pem" 2>/dev/null
rm "$file.ext" "$file.csr"
chmod 644 "$file.pem" ca.pem
