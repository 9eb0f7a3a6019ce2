"""The table of translations in the docs is what the code does."""

from tests.contract.translations import page
from tests.shared import ROOT


def test_the_page_is_up_to_date() -> None:
    shipped = (ROOT / "docs/translations.md").read_text()
    assert shipped == page(), "run: python -m tests.contract.translations > docs/translations.md"
