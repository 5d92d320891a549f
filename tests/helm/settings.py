"""Takes the files of the chart's ConfigMap out of rendered objects, and checks that the pod reads
them: `settings.py OBJECTS DIRECTORY`."""

import pathlib
import sys

import yaml

objects = list(yaml.safe_load_all(pathlib.Path(sys.argv[1]).read_text()))
by_kind = {}
for obj in filter(None, objects):
    by_kind.setdefault(obj["kind"], []).append(obj)

(files,) = by_kind["ConfigMap"]
for name, text in files["data"].items():
    pathlib.Path(sys.argv[2], name).write_text(text)

(pods,) = by_kind["StatefulSet"]
(service,) = by_kind["Service"]
template = pods["spec"]["template"]
(container,) = template["spec"]["containers"]
mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
assert volumes["config"]["configMap"]["name"] == files["metadata"]["name"]
assert f"--config={mounts['config']}/scoria.yaml" in container["args"], container["args"]
assert f"--data-dir={mounts['data']}" in container["args"], container["args"]
for selector in (pods["spec"]["selector"]["matchLabels"], service["spec"]["selector"]):
    assert selector.items() <= template["metadata"]["labels"].items(), selector
memory = [e for e in container["env"] if e["name"] == "SCORIA_MEMORY__LIMIT"]
assert memory[0]["valueFrom"]["resourceFieldRef"]["resource"] == "limits.memory"
