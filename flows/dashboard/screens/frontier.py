"""The frontier of a sweep or a table, with sliders for what is asked of it."""

import math
from dataclasses import dataclass, replace

from dash import html
from dash.development.base_component import Component

from analysis import published
from analysis.forecast.frontier_law import frontier_law, methods_disagree
from analysis.frontier.allocation import FrontierError
from analysis.frontier.answer import Advice, Demand, advise
from analysis.frontier.decision import AtBudget
from analysis.frontier.figures import demand_ratios, draw_frontier, frontier_data
from analysis.frontier.page import add_answer, add_reasons
from analysis.frontier.serving import Device, Serving
from analysis.law import LossLaw
from analysis.page import Page
from analysis.words import dollars, flops, short
from flows.dashboard import controls
from flows.dashboard.python_lines import python_of_frontier
from flows.dashboard.render import components
from flows.dashboard.screens.law import SubjectScreen

_NO_GPU = "none"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a frontier; nothing is served where `tokens` is 0."""

    flops: float
    tokens: float
    gpu: str
    price: float
    batch: int

    def words(self) -> str:
        """The question in a sentence."""
        served = f"{short(self.tokens)} tokens served" if self.tokens else "no serving"
        text = f"Asked: the loss of a compute-optimal {flops(self.flops)} FLOPs; {served}"
        if self.gpu == _NO_GPU:
            return f"{text}. Price and batch count once a GPU is chosen."
        text = f"{text}, on {self.gpu} at {dollars(self.price)} an hour, batch {self.batch}."
        if published.device(self.gpu)["usd_per_hour"] is None:
            text += f" {self.gpu} has no list price here: set what you pay with the slider."
        return text


class FrontierScreen(SubjectScreen):
    """Compute-optimal and inference-optimal N and D for a target, a demand and a price."""

    def awaited(self) -> bool:
        """Whether the forecast, or the law in its place, is still computed."""
        forecast = self.subject.forecast()
        if isinstance(forecast.value, str):
            return self.subject.findings(self.subject.own_counts).awaited
        return forecast.awaited

    def controls(self) -> list[Component]:
        """Sliders for target, demand, price and batch."""
        asked, spans = self.question(), self._spans()
        tokens = math.log10(asked.tokens) if asked.tokens else spans[1][0]
        return [
            self.tabs(),
            html.Div(
                [
                    controls.slider(
                        "target", "Target: training FLOPs, power of ten", spans[0], 0.1,
                        round(math.log10(asked.flops), 2),
                    ),
                    controls.slider(
                        "demand", "Demand: tokens served, power of ten; far left: none", spans[1],
                        0.1, round(tokens, 2),
                    ),
                    controls.slider(
                        "price", "Price: dollars an hour for a GPU", (0.1, 15), 0.1, asked.price
                    ),
                    controls.slider(
                        "batch", "Batch: sequences at once, power of two", (0, 9), 1,
                        round(math.log2(asked.batch)),
                    ),
                ],
                className="controls",
            ),
        ]  # fmt: skip

    def body(self) -> list[Component]:
        """The GPUs to choose from, and the answer."""
        return [self._gpus(), *super().body()]

    def beginning(self) -> list[Component]:
        """To the frontier: its reasons, and figures of them, take as long again."""
        page, _ = self._begun()
        return [self._gpus(), *components(page, self.beside, self.links())]

    def _gpus(self) -> Component:
        names = {_NO_GPU: "FLOPs alone"} | {name: name for name in published.devices()["name"]}
        gpu = self.question().gpu
        # Another GPU comes with its own price.
        there = self.address.with_query(price=None)
        return controls.choice(there, "gpu", "Served on", names, gpu)

    def question(self) -> Question:
        """What the address asks."""
        target, demand = self._spans()
        gpus = tuple(published.devices()["name"])
        gpu = self.address.choice("gpu", (_NO_GPU, *gpus))
        listed = published.device(gpu)["usd_per_hour"] if gpu != _NO_GPU else None
        power = self.address.number("demand", round((demand[0] + demand[1]) / 2, 1))
        budget = self.address.number("target", target[0] + 2.0)
        return Question(
            flops=10 ** _within(budget, target),
            tokens=0.0 if power <= demand[0] else 10 ** _within(power, demand),
            gpu=gpu,
            price=_within(self.address.number("price", listed or 2.0), (0.1, 15)),
            batch=2 ** round(_within(self.address.number("batch", 5), (0, 9))),
        )

    def _spans(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Ends of the sliders of target and demand, in powers of ten."""
        used = self.subject.table().used
        if not used.height:
            return (9.0, 16.0), (5.0, 13.0)
        top = math.log10(max(used["flops_6nd"].to_numpy()))
        most = math.log10(max(used["tokens"].to_numpy()))
        return (
            (math.floor(top) - 1.0, math.ceil(top) + 4.0),
            (math.floor(most) - 1.0, math.ceil(most) + 5.0),
        )

    def make_page(self) -> Page:
        """The answer of isoflop frontier, with the frontier drawn."""
        begun, advice = self._begun()
        page = Page(begun.title)
        page.parts += begun.parts
        if advice is not None:
            add_reasons(page, advice)
        return page

    def _begun(self) -> tuple[Page, Advice | None]:
        """The page to its first figure, and the answer that it goes on with, if there is one."""
        return self.desk.frontiers.get(str(self.address), self.stamp(), self._begin)

    def _begin(self) -> tuple[Page, Advice | None]:
        asked, page = self.question(), Page(self.title)
        page.text(asked.words(), role="soft")
        law = self._law(asked)
        if law is None:
            page.text("The forecast is being computed; the answer appears here.", role="busy")
            return page, None
        if isinstance(law, str):
            page.text(law, role="warn")
            return page, None
        if law.trust.bars:
            page.text(" ".join(law.trust.bars), role="warn")
            page.text(f"isoflop frontier --law {self.subject.name} --anyway answers all the same.")
            return page, None
        try:
            advice = replace(_advice(law, asked), foretold=self._is_foretold())
        except FrontierError as error:
            page.text(str(error), role="warn")
            return page, None
        add_answer(page, advice)
        data = frontier_data(law, demand_ratios(law, asked.flops, asked.tokens))
        page.heading("The frontier")
        page.figure(draw_frontier(data), name="frontier", height=520, data=data)
        return page, advice

    def _law(self, asked: Question) -> LossLaw | str | None:
        """The law that the question is put to; None while it is computed, else why there is none.

        Of runs that give no forecast it is their fitted law, which says why.
        """
        forecast = self.subject.forecast()
        if forecast.failure:
            return forecast.note
        if forecast.value is None:
            return None
        if not isinstance(forecast.value, str):
            learnt, beside = forecast.value
            subject, goal = self.subject, AtBudget(asked.flops)
            try:
                law = frontier_law(
                    subject.table(),
                    goal,
                    _demand(asked),
                    subject.name,
                    learnt,
                    serving=_serving(asked),
                )
            except FrontierError as error:
                return str(error)
            return law.with_warnings(*methods_disagree(learnt, beside, law, goal))
        findings = self.subject.findings(self.subject.own_counts).value
        if findings is None:
            return None
        if findings.group is None:
            return f"There is no law yet: {findings.refusal}"
        why = f"No forecast: {forecast.value} The intervals are those of the fitted law."
        return findings.group.fit.law.with_warnings(why)

    def _is_foretold(self) -> bool:
        return isinstance(self.subject.forecast().value, tuple)

    def python(self, figure: str) -> str | None:
        asked, subject = self.question(), self.subject
        flops, tokens = asked.flops, asked.tokens
        law = subject.door if self._is_foretold() else f"{subject.door_fit}.law"
        made = f"isoflop.frontier({law}, flops={flops}, generated_tokens={tokens}{_paid(asked)})"
        return python_of_frontier(figure, made, subject.before, flops, tokens)


def _advice(law: LossLaw, asked: Question) -> Advice:
    return advise(law, AtBudget(asked.flops), _demand(asked), serving=_serving(asked))


def _serving(asked: Question) -> Serving | None:
    """The GPUs that the answer is priced on; None for FLOPs alone."""
    if asked.gpu == _NO_GPU or not asked.tokens:
        return None
    return Serving(Device.named(asked.gpu, usd_per_hour=asked.price), batch=asked.batch)


def _paid(asked: Question) -> str:
    """The arguments of isoflop.frontier that price it."""
    if asked.gpu == _NO_GPU or not asked.tokens:
        return ""
    return f", gpu={asked.gpu!r}, price={asked.price}, batch={asked.batch}"


def _demand(asked: Question) -> Demand:
    # Without a split every token counts as generated, the more expensive kind.
    return Demand(generated=(asked.tokens, asked.tokens))


def _within(value: float, ends: tuple[float, float]) -> float:
    return min(max(value, ends[0]), ends[1])
