"""The bundle has named fields only: of thirty secrets none is in it."""

from edgeannot.base.foreign import json_text
from edgeannot.doctor.bundle import bundle
from edgeannot.doctor.findings import problem
from edgeannot.probe.board import Board

SECRETS = [f"geheim{number:02d}" for number in range(30)]


def test_none_of_thirty_secrets_is_in_the_bundle(examine, tmp_path):
    plant = iter(SECRETS)
    text = f'''device = "{next(plant)}"
out_dir = "/srv/{next(plant)}"
model = "{next(plant)}"
labels = ["{next(plant)}", "{next(plant)}"]
[sources.{next(plant)}]
kind = "camera"
url = "rtsp://{next(plant)}:{next(plant)}@{next(plant)}.local/{next(plant)}?token={next(plant)}"
credentials_file = "/etc/{next(plant)}"
[sources.{next(plant)}]
kind = "directory"
path = "/home/{next(plant)}/52.5200,13.4050/{next(plant)}"
ignore = ["{next(plant)}"]
after = "move"
after_folder = "/mnt/{next(plant)}"
[sources.{next(plant)}]
kind = "mqtt"
topic = "{next(plant)}/+"
group = "{next(plant)}"
[sinks.mqtt]
url = "mqtts://{next(plant)}.example:8883"
username = "{next(plant)}"
password_file = "/etc/{next(plant)}"
client_id = "{next(plant)}"
prefix = "{next(plant)}"
[sinks.webhook]
enabled = true
url = "https://{next(plant)}.example/{next(plant)}"
headers = {{ X-Site = "{next(plant)}" }}
header_files = {{ Authorization = "/etc/{next(plant)}" }}
[sinks.jsonl]
file = "{next(plant)}"
'''
    assert next(plant, None) is None
    findings = [problem("broker-dns", f"folder {SECRETS[5]}", f"the name {SECRETS[20]} is not known", f"look at {SECRETS[12]}")]
    board = Board(machine="aarch64", name="a board called geheim")

    packed = json_text(bundle(examine(text), findings, board, {"numpy": "2.0", "geheim99": "1"}))

    assert "geheim" not in packed
    assert "52.52" not in packed
    assert "example" not in packed
    assert str(tmp_path) not in packed
    for told in ('"broker-dns"', '"camera"', '"after":"move"', '"keepalive_s":30', '"model":"own"', '"numpy":"2.0"'):
        assert told in packed, told
