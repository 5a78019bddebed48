// What moves on the pages. Everything works without it, less lively.
"use strict";

const LIVE = ["pending", "queued", "running"];

// Text only: nothing that came over the wire is ever read as HTML by our code.
const say = (element, text) => { if (element) element.textContent = text; };
const duration = (seconds) => seconds < 90 ? `${Math.round(seconds)} s`
  : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;

async function pageAt(address) {
  const answer = await fetch(address, { headers: { Accept: "text/html" } });
  if (!answer.ok) throw new Error(`${answer.status}`);
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

// A region that is alive is read again every few seconds, until it comes without `data-refresh`.
function keepFresh(region) {
  const seconds = Number(region.dataset.refresh);
  if (!seconds) return;
  setTimeout(async () => {
    let next = region;
    if (!document.hidden && !region.contains(document.activeElement)) {
      try {
        const fresh = (await pageAt(location.href)).getElementById(region.id);
        if (fresh) { region.replaceWith(fresh); next = fresh; enliven(fresh); }
      } catch { /* The server restarts or is away: ask again. */ }
    }
    keepFresh(next);
  }, seconds * 1000);
}

// Cards that are far from what one sees give up their contents, so that a phone holds tens of
// thousands of them. Their places stay, as large as they were.
const putAway = new WeakMap();
const contentsOf = (card) => putAway.get(card) || card;

function lighten(card) {
  if (putAway.has(card) || card.contains(document.activeElement)) return;
  const contents = document.createDocumentFragment();
  contents.append(...card.childNodes);
  putAway.set(card, contents);
}

function fill(card) {
  if (!putAway.has(card)) return;
  card.append(putAway.get(card));
  putAway.delete(card);
}

const nearness = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) (isIntersecting ? fill : lighten)(target);
}, { rootMargin: "2000px" });

// A batch's progress, as the server tells it.
function follow(section) {
  if (!section.dataset.events) return;
  const samples = [];
  const source = new EventSource(section.dataset.events);
  source.addEventListener("progress", (event) => {
    const counts = JSON.parse(event.data);
    let live = 0, total = 0;
    for (const [state, count] of Object.entries(counts)) {
      say(section.querySelector(`[data-count="${CSS.escape(state)}"]`), count);
      total += count;
      if (LIVE.includes(state)) live += count;
    }
    const bar = section.querySelector("[data-bar]");
    bar.max = total || 1;
    bar.value = total - live;
    const now = performance.now() / 1000;
    samples.push([now, total - live]);
    while (samples.length > 2 && samples[0][0] < now - 60) samples.shift();
    const [since, before] = samples[0];
    const rate = now > since ? (total - live - before) / (now - since) : 0;
    const left = rate > 0 && live ? `, ${rate.toFixed(2)} a second, about ${duration(live / rate)} left` : "";
    say(section.querySelector("[data-pace]"), `${total - live} of ${total} ended${left}`);
  });
  source.addEventListener("job", (event) => {
    const job = JSON.parse(event.data);
    const found = document.querySelector(`[data-job="${CSS.escape(job.id)}"]`);
    if (!found) return;
    const card = contentsOf(found);
    const badge = card.querySelector("[data-state]");
    badge.className = `state ${job.state}`;
    say(badge, job.state);
    const empty = card.querySelector(".empty");
    if (job.state !== "succeeded" || !empty || job.kind === "inversion") return;
    const image = document.createElement("img");
    image.src = `/jobs/${encodeURIComponent(job.id)}/pictures/image?size=256`;
    image.alt = card.querySelector(".words").textContent.trim();
    empty.replaceWith(image);
  });
  source.addEventListener("end", () => source.close());
}

// The next page of a grid comes when its link is about to be seen.
function readOn(link) {
  const watcher = new IntersectionObserver(async (entries) => {
    // It tells of several moments at once; only the last is now.
    if (!entries.at(-1).isIntersecting) return;
    watcher.disconnect();
    try {
      const page = await pageAt(link.href);
      const grid = document.querySelector("[data-grid]");
      for (const card of page.querySelectorAll("[data-grid] > .card")) {
        grid.append(document.adoptNode(card));
        nearness.observe(card);
      }
      const next = page.querySelector("[data-more]");
      if (next) { link.href = next.getAttribute("href"); readOn(link); } else link.remove();
    } catch { /* The link stays, to be followed by hand. */ }
  }, { rootMargin: "800px" });
  watcher.observe(link);
}

function slide(root) {
  const slider = root.querySelector("[data-slider]");
  const compare = root.querySelector("[data-compare]");
  if (!slider || !compare) return;
  slider.addEventListener("input", () => compare.style.setProperty("--at", `${slider.value}%`));
}

function copyButtons() {
  if (!navigator.clipboard) return;
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      say(button, "Copied");
    });
  }
}

// In a grid: arrows move, a, r and u mark what has the focus.
const VERDICTS = { a: "approved", r: "rejected", u: null };

async function markCard(card, verdict) {
  const answer = await fetch(`/v1/jobs/${encodeURIComponent(card.dataset.job)}/mark`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ verdict }),
  });
  if (answer.ok) say(card.querySelector("[data-verdict]"), verdict || "");
}

function moveIn(grid, card, key) {
  const cards = [...grid.children];
  const across = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across }[key];
  const next = cards[cards.indexOf(card) + by];
  if (!next) return;
  fill(next);
  next.querySelector("a").focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target.closest("input, select, textarea, pre")) return;
  const card = event.target.closest(".card");
  if (card && event.key.startsWith("Arrow")) {
    event.preventDefault();
    moveIn(card.parentElement, card, event.key);
  } else if (card && event.key in VERDICTS) {
    markCard(card, VERDICTS[event.key]);
  } else {
    const named = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
    if (named) { event.preventDefault(); named.click(); }
  }
});

document.addEventListener("submit", (event) => {
  const question = event.target.dataset.ask;
  if (question && !confirm(question)) event.preventDefault();
});

function enliven(root) {
  slide(root);
  for (const card of root.querySelectorAll("[data-grid] > .card")) nearness.observe(card);
}

enliven(document);
copyButtons();
document.querySelectorAll("[data-refresh]").forEach(keepFresh);
document.querySelectorAll("[data-events]").forEach(follow);
document.querySelectorAll("[data-more]").forEach(readOn);
