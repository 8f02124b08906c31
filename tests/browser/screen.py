"""What a user does and sees in Prefect's UI."""

from __future__ import annotations

import re
from collections.abc import Sequence

from playwright.sync_api import Locator, Page, expect

# A run begins within seconds; its process starts, and works, as long as it takes on a busy machine.
LONGEST_RUN_SECONDS = 180
MOST_SUBMISSIONS = 5
ENDS = re.compile("^(Completed|Failed|Crashed|Cancelled|TimedOut)$")


class Screen:
    """A page of Prefect's UI, and the hands and eyes in front of it.

    Args:
        page: The page.
        ui: The address of the UI.

    Attributes:
        page: The page.
    """

    def __init__(self, page: Page, ui: str) -> None:
        self.page = page
        self._ui = ui
        # Prefect's UI shows a notice when its server answers with 5xx, as it does while SQLite is locked. The notice
        # covers buttons until it is closed, so it is closed, as a user would.
        page.add_locator_handler(
            page.get_by_text("Something went wrong").first, self._close_notices, no_wait_after=True
        )

    def open_run_form(self, flow: str, deployment: str) -> None:
        """Go from a deployment to its run form."""
        # Not from the list of deployments: it is sorted by name, and shows no more than ten at first.
        found = self.page.request.get(f"{self._ui}/api/deployments/name/{flow}/{deployment}").json()
        self.page.goto(f"{self._ui}/deployments/deployment/{found['id']}")
        self.page.get_by_role("button", name="Run", exact=True).click()
        self.page.get_by_text("Custom run", exact=True).click()
        expect(self.page.get_by_role("heading", name="Parameters")).to_be_visible()

    def parameter(self, name: str) -> Locator:
        """The part of the run form that is for a parameter."""
        label = self.page.locator(".schema-form-property__label", has_text=re.compile(rf"^\s*{name}\b"))
        return self.page.locator(".schema-form-property", has=label)

    def help_of(self, parameter: str) -> str:
        """What the run form says about a parameter."""
        text = self.parameter(parameter).get_by_role("article")
        # The UI renders its Markdown some time after the form.
        expect(text).not_to_be_empty()
        return text.inner_text().strip()

    def take(self, parameter: str, alternative: str) -> None:
        """Choose one of the ways to fill a parameter in."""
        self.parameter(parameter).get_by_role("button", name=alternative, exact=True).click()

    def fill(self, parameter: str, text: str) -> None:
        """Type into a parameter, and if it is a list, into a new item of it."""
        fields = self.parameter(parameter).locator("fieldset").first
        text_field = fields.get_by_role("textbox").or_(fields.get_by_role("spinbutton"))
        new_item = fields.get_by_role("button", name="Add item")
        expect(text_field.or_(new_item).first).to_be_visible()
        if new_item.is_visible():
            new_item.click()
        text_field.last.fill(text)

    def choose(self, parameter: str, *names: str) -> None:
        """Choose from a parameter's list by parts of what it shows."""
        # Of Prefect 3.8.8's lists, only the arrow opens them: elsewhere a click opens and at once closes them.
        self.parameter(parameter).locator(".p-select-button__icon").click()
        for name in names:
            self.page.get_by_role("option", name=name).click()
        # It closes at a click beside it.
        self.page.get_by_role("heading", name="Parameters").click()
        expect(self.page.get_by_role("option")).to_have_count(0)

    def switch(self, parameter: str) -> None:
        """Switch a parameter on or off."""
        self.parameter(parameter).get_by_role("switch").click()

    def submit(self) -> None:
        """Submit a form."""
        self.page.get_by_role("button", name="Submit", exact=True).click()

    def start_run(self) -> None:
        """Submit the run form and go to the run; submit it again where Prefect's server could not take it."""
        for _ in range(MOST_SUBMISSIONS):
            with self.page.expect_response(re.compile("/create_flow_run$")) as answered:
                self.submit()
            # SQLite may be locked for a moment; the UI then says that something went wrong.
            if answered.value.ok:
                break
        # The notice that leads there is gone after five seconds.
        self.page.goto(f"{self._ui}/runs/flow-run/{answered.value.json()['id']}")
        expect(self.page.get_by_role("banner").get_by_role("link", name="Runs")).to_be_visible()

    def end_of_run(self) -> str:
        """Look at a run until it has ended; returns its state."""
        state = self.page.get_by_role("banner").get_by_text(ENDS)
        expect(state).to_be_visible(timeout=LONGEST_RUN_SECONDS * 1000)
        return state.inner_text()

    def open_resume_form(self) -> None:
        """Wait until a run is paused, and open the form that resumes it."""
        paused = self.page.get_by_role("banner").get_by_text("Paused", exact=True)
        expect(paused).to_be_visible(timeout=LONGEST_RUN_SECONDS * 1000)
        self.page.get_by_role("button", name="Resume", exact=True).click()

    def open_tab(self, name: str) -> None:
        """Open a tab of the page."""
        self.page.get_by_role("tablist").get_by_text(name, exact=True).click()

    def open_artifact(self, key: str) -> None:
        """Go from a run to one of its artifacts."""
        self.open_tab("Artifacts")
        self.page.get_by_role("tabpanel").get_by_role("link").filter(has_text=key).click()
        expect(self.page.get_by_role("table")).to_be_visible()

    def shows(self, text: str | re.Pattern[str]) -> None:
        """Assert that a text is to be seen, or comes to be."""
        expect(self.page.get_by_text(text).first).to_be_visible()

    def shows_no(self, text: str) -> None:
        """Assert that a text is not to be seen."""
        expect(self.page.get_by_text(text)).to_have_count(0)

    def goal_of(self, link: str) -> str | None:
        """Where a link leads."""
        return self.page.get_by_role("link", name=link, exact=True).get_attribute("href")

    def shows_table(self, titles: Sequence[str], rows: Sequence[Sequence[str | re.Pattern[str]]]) -> None:
        """Assert that there is one table, with these cells, or comes to be."""
        table = self.page.get_by_role("table")
        expect(table.get_by_role("columnheader")).to_have_text(titles, use_inner_text=True)
        lines = table.get_by_role("row")
        expect(lines).to_have_count(1 + len(rows))
        for place, row in enumerate(rows, start=1):
            expect(lines.nth(place).get_by_role("cell")).to_have_text(row, use_inner_text=True)

    def _close_notices(self) -> None:
        # Not a click of the mouse: the ring that counts down lies over the button.
        self.page.locator(".p-toast__close-btn").evaluate_all("buttons => buttons.forEach(button => button.click())")
