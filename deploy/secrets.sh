#!/bin/sh
# Writes the secrets that compose.yaml names, unless they are there: sh deploy/secrets.sh [FOLDER]
# Nobody but the owner may enter the folder; its files are readable, as the users in the containers are others.
set -eu
umask 022
folder=${1:-secrets}
mkdir -p "$folder"
chmod 700 "$folder"
cd "$folder"

random() {
    od -An -v -tx1 -N "$1" /dev/urandom | tr -d ' \n'
}

[ -s redis_password ] || random 32 >redis_password
[ -s facelight_redis_url ] || printf 'redis://:%s@redis:6379/0' "$(cat redis_password)" >facelight_redis_url
[ -s facelight_api_keys ] || random 24 >facelight_api_keys
[ -s redis_exporter ] || printf '{"redis://redis:6379": "%s"}' "$(cat redis_password)" >redis_exporter
echo "$folder/ is complete: $(ls | tr '\n' ' ')"
