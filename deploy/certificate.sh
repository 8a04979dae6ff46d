# `sh deploy/certificate.sh`, once: makes the certificate by which the machines that grade a class
# know each other. Copy its folder to each of them; whoever has it can run programs there.
set -eu
folder=${FIRSTCNN_TLS:-$HOME/.first-cnn-tls}
if [ -e "$folder/key.pem" ]; then
    echo "There is one in $folder already. To make another, remove that folder." >&2
    exit 1
fi
umask 077
mkdir -p "$folder"
openssl req -x509 -newkey rsa:3072 -nodes -days 180 -subj /CN=first-cnn \
    -keyout "$folder/key.pem" -out "$folder/certificate.pem" 2>/dev/null
echo "$folder: copy this folder to every machine that grades."
