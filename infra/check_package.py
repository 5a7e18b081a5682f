"""Packages what `sam build` built into a throwaway S3 on this machine, then looks into every uploaded piece.

A wrong setting makes `sam package` upload source folders instead of binaries and report success, and a binary
may need a newer glibc than Lambda has; neither shows before the first night. `check_package.py SAM ARCHITECTURE`.
"""

import io
import logging
import os
import re
import subprocess
import sys
import tempfile
import zipfile

BUCKET = "package"
NEWEST_GLIBC = (2, 34)  # of provided.al2023
PGTOOLS = ["pg_dump", "pg_restore", "psql"]
# e_machine of the ELF header.
MACHINES = {"x86_64": 62, "arm64": 183}


def start_s3():
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    os.environ.update(
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}",
        AWS_ACCESS_KEY_ID="local",
        AWS_SECRET_ACCESS_KEY="local",
        AWS_DEFAULT_REGION="us-east-1",
    )
    os.environ.pop("AWS_PROFILE", None)


def package(sam, s3):
    """The packaged template's code objects: (logical id, zip)."""
    import yaml

    class AnyTag(yaml.SafeLoader):
        pass

    def plain(loader, _suffix, node):
        if isinstance(node, yaml.ScalarNode):
            return loader.construct_scalar(node)
        if isinstance(node, yaml.SequenceNode):
            return loader.construct_sequence(node, deep=True)
        return loader.construct_mapping(node, deep=True)

    AnyTag.add_multi_constructor("!", plain)
    s3.create_bucket(Bucket=BUCKET)
    with tempfile.NamedTemporaryFile(suffix=".yaml") as packaged:
        command = [sam, "package", "--s3-bucket", BUCKET, "--output-template-file", packaged.name, "--force-upload"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            sys.exit(done.stdout)
        template = yaml.load(packaged, AnyTag)
    for name, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        uri = properties.get("CodeUri") or properties.get("ContentUri")
        if uri:
            if not str(uri).startswith(f"s3://{BUCKET}/"):
                sys.exit(f"package: {name} was not uploaded: {uri}")
            body = s3.get_object(Bucket=BUCKET, Key=uri.removeprefix(f"s3://{BUCKET}/"))["Body"].read()
            yield name, resource["Type"].rsplit("::", 1)[1], body


def newest_glibc(binary):
    """As a tuple, (0,) for a static binary; None when it is no ELF at all."""
    if not binary.startswith(b"\x7fELF"):
        return None
    with tempfile.NamedTemporaryFile() as file:
        file.write(binary)
        file.flush()
        versions = subprocess.run(["readelf", "--version-info", "--wide", file.name], capture_output=True, text=True, check=True)
    found = re.findall(r"GLIBC_(\d+(?:\.\d+)+|[A-Z]\w*)", versions.stdout)
    if any(not version[0].isdigit() for version in found):
        return (99,)  # Something that is asked for by name is newer than any number we know.
    return max((tuple(map(int, version.split("."))) for version in found), default=(0,))


def expected_binaries(name, kind, archive):
    if kind == "Function":
        return ["bootstrap"]
    if name == "PgToolsLayer":
        majors = {path.split("/")[1] for path in archive.namelist() if path.startswith("pgtools/") and path.count("/") > 1}
        if not majors:
            sys.exit("package: the tools layer holds no major version")
        return [f"pgtools/{major}/bin/{program}" for major in sorted(majors) for program in PGTOOLS]
    return []


def main():
    start_s3()
    import boto3

    wrong = []
    print(f"{'piece':<16} {'file':<28} {'zipped':>10} {'bytes':>10}  newest symbol")
    for name, kind, body in package(sys.argv[1], boto3.client("s3")):
        archive = zipfile.ZipFile(io.BytesIO(body))
        binaries = expected_binaries(name, kind, archive)
        if name == "ConfigLayer":
            print(f"{name:<16} {'lifeboat.toml':<28} {len(body):>10,}")
            if "lifeboat.toml" not in archive.namelist():
                wrong.append(f"{name} holds no lifeboat.toml at its top")
        for path in binaries:
            if path not in archive.namelist():
                wrong.append(f"{name} holds no {path}, but {archive.namelist()[:5]}")
                continue
            binary = archive.read(path)
            newest = newest_glibc(binary)
            shown = "no ELF" if newest is None else "GLIBC_" + ".".join(map(str, newest))
            print(f"{name:<16} {path:<28} {len(body):>10,} {len(binary):>10,}  {shown}")
            if newest is None or newest > NEWEST_GLIBC:
                wrong.append(f"{name}: {path} is {shown}; Lambda runs ELF up to GLIBC_2.34")
            if int.from_bytes(binary[18:20], "little") != MACHINES[sys.argv[2]]:
                wrong.append(f"{name}: {path} is not for {sys.argv[2]}; build it on such a machine")
    if wrong:
        sys.exit("package: " + "\npackage: ".join(wrong))
    print("package: every piece is what Lambda can run")


main()
