// Makes a page live, and handy for the keyboard. The server sends pieces of HTML that it rendered and escaped itself; each names the element
// it belongs to, and whether it goes behind what is there or takes its place. Without this script a page shows the
// same after a reload.
"use strict";

// A form that was sent says so, and is not sent twice. A page that comes back from the browser's memory is as it was.
document.addEventListener("submit", (event) => {
  for (const button of event.target.querySelectorAll("button[data-busy]")) {
    button.dataset.idle = button.textContent;
    button.textContent = button.dataset.busy;
    button.disabled = true;
  }
});
window.addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("button[data-idle]")) {
    button.textContent = button.dataset.idle;
    button.disabled = false;
  }
});

// Who chooses a kind of key that has settings sees the field for them.
document.getElementById("kind")?.addEventListener("change", (event) => {
  const field = event.target.selectedOptions[0]?.parentElement.dataset.settings;
  const fold = field && document.getElementById(field)?.closest("details");
  if (fold) fold.open = true;
});

// Escape closes what the keyboard is in: a fold, or a page that asks something.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.defaultPrevented) return;
  const fold = document.activeElement?.closest("details[open]");
  if (fold) {
    fold.open = false;
    fold.querySelector("summary")?.focus();
    return;
  }
  if (document.activeElement?.matches("input, textarea, select")) return;
  document.querySelector("a[data-escape]")?.click();
});

const place = document.querySelector("[data-live]");
if (place) {
  const state = document.getElementById("live-state");
  const follow = place.hasAttribute("data-follow");
  const started = new URL(place.dataset.live, location.href);
  let source = null;
  let last = null;
  let failures = 0;
  let over = false;
  let retry = 0;

  const say = (word, kind) => {
    if (!state) return;
    state.className = "live-state " + kind;
    state.textContent = word;
  };

  const apply = (html) => {
    const end = document.documentElement;
    const atEnd = follow && end.scrollHeight - window.scrollY - window.innerHeight < 160;
    const holder = document.createElement("template");
    holder.innerHTML = html;
    for (const piece of holder.content.children) {
      const to = piece.dataset.to && document.getElementById(piece.dataset.to);
      if (!to) continue;
      if (piece.dataset.how === "append") {
        to.append(piece.content);
        continue;
      }
      const held = to.contains(document.activeElement) ? document.activeElement.id : null;
      to.replaceChildren(piece.content);
      // What had the keyboard may be gone: then whoever uses it goes on from the page's own beginning.
      if (held !== null) (document.getElementById(held) ?? document.getElementById("main"))?.focus({ preventScroll: true });
    }
    // From here on the page shows what the server has, and not only what it had when the page was made.
    place.dataset.fresh = "";
    const badge = document.querySelector("#state .badge");
    if (badge) document.title = document.title.replace(/^[a-z]+ · /, badge.textContent + " · ");
    if (atEnd) window.scrollTo(0, end.scrollHeight);
  };

  const close = () => {
    clearTimeout(retry);
    if (source) source.close();
    source = null;
  };

  const open = () => {
    close();
    const url = new URL(started);
    if (last !== null) url.searchParams.set("after", last);
    source = new EventSource(url);
    source.onopen = () => {
      failures = 0;
      say("live", "on");
    };
    source.onmessage = (event) => {
      if (event.lastEventId) last = event.lastEventId;
      apply(event.data);
    };
    source.addEventListener("end", (event) => {
      over = true;
      close();
      apply(event.data);
      say("", "");
    });
    source.onerror = () => {
      say("reconnecting", "lost");
      if (source && source.readyState === EventSource.CLOSED) {
        // The server answered, but not with a stream: it does not try again by itself.
        failures += 1;
        if (failures > 5) say("not live: reload the page", "lost");
        else retry = setTimeout(open, 1000 * 2 ** failures);
      }
    };
  };

  // A browser keeps few connections to one host; a page that nobody looks at gives its back.
  const turn = () => {
    if (over) return;
    if (document.hidden) close();
    else open();
  };
  document.addEventListener("visibilitychange", turn);
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) turn();
  });
  turn();
}
