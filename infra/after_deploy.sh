#!/usr/bin/env bash
# What a deployed stack still needs: protection from deletion, its secrets, a first backup. Takes the stack's name.
set -euo pipefail
cd "$(dirname "$0")/.."
stack=$1
aws=.tools/venv/bin/aws

$aws cloudformation update-termination-protection --enable-termination-protection --stack-name "$stack" >/dev/null
echo "deploy: the stack is protected from deletion"

# A secret that the stack has created exists without a version, so it is versions that are asked for.
missing=0
secret() {
    case $($aws secretsmanager describe-secret --secret-id "$1" --query VersionIdsToStages --output text 2>/dev/null || true) in
        "" | None) ;;
        *) return ;;
    esac
    missing=1
    echo "deploy: the secret $1 has no value yet. From a file that only you can read:"
    echo "    $2"
}
secret lifeboat/identity \
    "aws secretsmanager put-secret-value --secret-id lifeboat/identity --secret-string file://identity.txt"
# Of a database its URL, of a Neon project its API key.
while read -r name; do
    secret "$name" "aws secretsmanager create-secret --name $name --secret-string file://${name##*/}.txt"
done < <(cargo run --quiet --locked --profile local -p shared --example check_config infra/config/lifeboat.toml)
if [ $missing = 1 ]; then
    echo "deploy: no first backup was started. Set these, then run \`make deploy\` again."
    exit 1
fi

machine=$($aws cloudformation describe-stacks --stack-name "$stack" \
    --query "Stacks[0].Outputs[?OutputKey=='BackupMachine'].OutputValue" --output text)
execution=$($aws stepfunctions start-execution --state-machine-arn "$machine" --input '{"kind":"on-demand"}' \
    --query executionArn --output text)
echo "deploy: the first backup runs as $execution"
