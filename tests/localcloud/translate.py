"""Translates a SAM template to plain CloudFormation, as a deployment would: `translate.py TEMPLATE < parameters.json`."""

import json
import os
import sys

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse


class NoManagedPolicies:
    """The project's roles name no managed policy, so none is ever looked up."""

    def load(self):
        return {}


def localise(template, folder):
    """Replaces what `sam package` would upload: code and layers become names, definitions are read in."""
    for name, resource in template["Resources"].items():
        properties = resource.setdefault("Properties", {})
        kind = resource["Type"]
        if kind == "AWS::Serverless::Function":
            built = resource.get("Metadata", {}).get("BuildProperties", {})
            binary = built.get("Binary") or os.path.basename(os.path.normpath(properties["CodeUri"]))
            properties["CodeUri"] = {"Bucket": "code", "Key": binary}
        elif kind == "AWS::Serverless::LayerVersion":
            properties["ContentUri"] = {"Bucket": "code", "Key": name}
        elif kind == "AWS::Serverless::StateMachine" and "DefinitionUri" in properties:
            with open(os.path.join(folder, properties.pop("DefinitionUri")), encoding="utf-8") as definition:
                properties["Definition"] = json.load(definition)


def main():
    path = sys.argv[1]
    parameters = json.load(sys.stdin)
    with open(path, encoding="utf-8") as file:
        template = yaml_parse(file.read())
    localise(template, os.path.dirname(path))
    defaults = {name: p["Default"] for name, p in template.get("Parameters", {}).items() if "Default" in p}
    json.dump(transform(template, {**defaults, **parameters}, NoManagedPolicies()), sys.stdout)


main()
