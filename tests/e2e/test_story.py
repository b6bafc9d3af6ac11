"""A stranger's first ten minutes: one command, then requests with the printed token, then the second start."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_from_nothing_to_a_repaired_customer_that_outlives_a_restart(start):
    from billing_service.sandbox.demo import ORGANIZATIONS
    from billing_service.subscriptions.verdict import VERDICTS

    with start() as it:
        verdicts = {each.id: it.customer(each.id)["verdict"] for each in ORGANIZATIONS}
        assert verdicts == {each.id: each.verdict for each in ORGANIZATIONS}
        assert set(verdicts.values()) == set(VERDICTS)
        org_id = "650000000000000000000006"
        assert {each["field"] for each in it.customer(org_id)["differences"]} >= {"status", "plan"}
        assert it.sync(org_id, "?dryRun=true").json()["dryRun"] is True
        assert it.customer(org_id)["verdict"] == "diverged"
        assert it.sync(org_id).status_code == 200
        assert it.customer(org_id)["verdict"] == "in_sync"
        assert "Console" in it.output.read_text()
    with start() as again:
        assert again.customer(org_id)["verdict"] == "in_sync"


def test_the_readme_names_what_there_is():
    readme = (ROOT / "README.md").read_text()
    from billing_service.sandbox.demo import ORGANIZATIONS

    assert "make run" in readme
    assert "make test" in readme
    assert "650000000000000000000006" in readme
    assert next(each.verdict for each in ORGANIZATIONS if each.id == "650000000000000000000006") == "diverged"
    for image in (line.split("](")[1].split(")")[0] for line in readme.splitlines() if line.startswith("![")):
        assert (ROOT / image).is_file()
