"""The modules beside the test that assert, too, tell what they compared."""

import pytest

pytest.register_assert_rewrite(
    "tests.e2e.test_load.installation", "tests.e2e.test_load.proof", "tests.e2e.test_load.admins"
)
