"""What is kept from one start to the next, and who may use it."""

import contextlib
import stat
import subprocess
import sys

import pytest

from billing_service.sandbox.dev_child import CannotStart
from billing_service.sandbox.dev_folder import DataFolder, write_privately
from billing_service.sandbox.dev_given import read

HOLDER = """
import sys
from pathlib import Path
from billing_service.sandbox.dev_folder import DataFolder
folder = DataFolder(Path(sys.argv[1]))
folder.open()
folder.say_who("http://127.0.0.1:8000")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "data")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture
def folder(tmp_path):
    with contextlib.closing(DataFolder(tmp_path / "data")) as folder:
        yield folder


def test_a_second_one_is_told_who_holds_it(folder, holder):
    with pytest.raises(CannotStart, match=rf"pid {holder.pid}, http://127\.0\.0\.1:8000"):
        folder.open()


def test_a_killed_holder_leaves_no_lock(folder, holder):
    holder.kill()
    holder.wait()
    folder.open()
    folder.say_who("http://127.0.0.1:8000")
    second = DataFolder(folder.path)
    with pytest.raises(CannotStart, match="One is already running"):
        second.open()
    second.close()


def test_secrets_are_made_once_and_are_their_owners_only(folder):
    folder.open()
    assert folder.kept("secret", lambda: "made once") == "made once"
    assert DataFolder(folder.path).kept("secret", lambda: "made again") == "made once"
    assert stat.S_IMODE((folder.path / "dev.json").stat().st_mode) == 0o600


def test_a_full_disk_is_named(folder):
    folder.free_bytes_needed = 10**18
    with pytest.raises(CannotStart, match=r"MB free and 1000000000000 MB are needed"):
        folder.open()


def test_damaged_secrets_are_named(tmp_path):
    (tmp_path / "dev.json").write_text("{")
    with pytest.raises(CannotStart, match=r"dev\.json is damaged"):
        DataFolder(tmp_path).kept("secret", str)


def test_a_file_is_replaced_and_not_added_to(tmp_path):
    write_privately(tmp_path / "file", {"a": 1, "b": 2})
    write_privately(tmp_path / "file", {"a": 1})
    assert (tmp_path / "file").read_text() == '{\n  "a": 1\n}\n'


def test_blank_variables_give_nothing():
    given = read({"MONGODB_URI": " ", "STRIPE_SECRET_KEY": ""})
    assert given.mongodb_uri is None
    assert given.stripe_secret_key is None


def test_a_given_key_without_a_base_is_for_stripe_itself():
    given = read({"STRIPE_SECRET_KEY": "sk_test_x", "STRIPE_WEBHOOK_SECRETS": "whsec_first, whsec_second"})
    assert given.stripe_api_base == "https://api.stripe.com"
    assert given.webhook_secret == "whsec_first"
