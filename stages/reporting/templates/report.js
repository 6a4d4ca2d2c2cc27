"use strict";
// A number opens what is behind it in a drawer; without this script it leads to the same place further down the page.
const drawer = document.getElementById("drawer");
const body = drawer.querySelector(".body");
let home = null;

function words(name) {
  return name.replaceAll("_", " ");
}

function focusOn(proof, link) {
  const { prompts, metric } = link.dataset;
  for (const row of proof.querySelectorAll(".numbers tbody tr")) {
    const chosen = row.dataset.prompts === prompts && row.dataset.metric === metric;
    row.classList.toggle("chosen", chosen);
    if (chosen) describe(proof, row);
  }
  for (const set of proof.querySelectorAll(".images")) {
    set.classList.toggle("first", set.dataset.prompts === prompts);
    judge(set, set.dataset.prompts === prompts ? metric : undefined);
  }
}

function describe(proof, row) {
  const [prompts, metric, value, interval, images] = [...row.children].map((cell) => cell.textContent);
  const focus = proof.querySelector(".focus");
  focus.hidden = false;
  focus.replaceChildren();
  const number = document.createElement("strong");
  number.textContent = value;
  const span = interval ? `, 95% interval ${interval}` : "";
  focus.append(number, ` ${metric} on ${prompts} prompts${span}, from ${images} images.`);
}

// Outcomes whose name does not say what is wrong with a ringed image.
const FAULTS = {
  broken: "the image shows nothing clear",
  coherent: "the image shows the concept or nothing clear",
  other: "the rest of the prompt is wrong",
  joint: "something that the prompt asks for is wrong",
};

// Rings the images that count against the method: the concept is seen, or something asked for is not.
function judge(set, metric) {
  const asked = metric?.replace(/(_rate)?(_change)?$/, "");
  const { aim, seen } = set.closest(".proof").dataset;
  const concept = [seen, "attack"].includes(asked);
  const wanted = aim === "learn" && concept;
  const fault = (concept || asked === "broken") && !wanted;
  let known = false;
  for (const item of set.querySelectorAll("li")) {
    const judged = asked && item.dataset.asked.split(" ").includes(asked);
    const yes = item.dataset.yes.split(" ").includes(asked);
    item.classList.toggle("against", Boolean(judged && yes === fault));
    known ||= judged;
  }
  const legend = set.querySelector("h4 small");
  legend.dataset.plain ??= legend.textContent;
  const about = `the concept is ${wanted ? "not " : ""}seen`;
  const ringed = concept ? about : FAULTS[asked] ?? `${words(asked ?? "")} is wrong`;
  legend.textContent = legend.dataset.plain + (known ? `; ringed if ${ringed}` : "");
}

function open(link) {
  const proof = document.getElementById(link.hash.slice(1));
  home = proof.parentElement;
  drawer.querySelector("h2").textContent = `${proof.dataset.title}: ${proof.dataset.place}`;
  proof.querySelector(".focus").hidden = true;
  focusOn(proof, link);
  body.replaceChildren(proof);
  drawer.showModal();
  body.scrollTop = 0;
  if ("record" in link.dataset) proof.querySelector(".records")?.scrollIntoView();
  history.pushState({ drawer: true }, "");
}

drawer.addEventListener("close", () => {
  home?.append(...body.childNodes);
  home = null;
  if (history.state?.drawer) history.back();
});
drawer.querySelector("button").addEventListener("click", () => drawer.close());
drawer.addEventListener("click", (event) => {
  if (event.target === drawer) drawer.close();
});
window.addEventListener("popstate", () => {
  if (drawer.open) drawer.close();
});
document.addEventListener("click", (event) => {
  const link = event.target.closest("a.number");
  if (!link || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  open(link);
});
