# Sourced on every machine, `. deploy/tls.sh`: what speaks Dask from this shell does so encrypted,
# and only with those who have the same certificate (deploy/certificate.sh).

export FIRSTCNN_TLS="${FIRSTCNN_TLS:-$HOME/.first-cnn-tls}"
[ -r "$FIRSTCNN_TLS/key.pem" ] || echo "There is no certificate in $FIRSTCNN_TLS that can be read." >&2

export DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION=true
export DASK_DISTRIBUTED__COMM__TLS__CA_FILE="$FIRSTCNN_TLS/certificate.pem"
for role in SCHEDULER WORKER CLIENT; do
    export "DASK_DISTRIBUTED__COMM__TLS__${role}__CERT=$FIRSTCNN_TLS/certificate.pem"
    export "DASK_DISTRIBUTED__COMM__TLS__${role}__KEY=$FIRSTCNN_TLS/key.pem"
done

# Nobody looks at the pages that schedulers and workers serve.
export DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES='[]' DASK_DISTRIBUTED__WORKER__HTTP__ROUTES='[]'
# Kernels that run at the same time share the cores.
export TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1
