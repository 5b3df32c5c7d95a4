// Puts what the node sends in place of what is shown. Without it the page is the same, only not live.
"use strict";
const live = document.getElementById("live");
const line = document.getElementById("line");
function say(text, bad) {
  if (line.textContent !== text) line.textContent = text; // the same again would be read out again
  line.className = bad ? "bad" : "";
}

function show(event) {
  const next = document.createElement("template");
  next.innerHTML = event.data;
  // What somebody opened stays open; what did not change is left alone, with the focus and the selection in it.
  for (const open of live.querySelectorAll("details[open]")) {
    const same = next.content.getElementById(open.id);
    if (same) same.open = true;
  }
  const ids = [...next.content.children].map((part) => part.id);
  const same = ids.join() === [...live.children].map((part) => part.id).join();
  if (!same) {
    live.replaceChildren(next.content);
  } else {
    for (const part of [...next.content.children]) {
      const old = document.getElementById(part.id);
      if (!old.isEqualNode(part)) replace(old, part);
    }
  }
  document.title = (document.querySelector("#verdict.good") ? "fine" : "look") + " – swarmnode";
  say("Live.", false);
}

function replace(old, part) {
  const focused = old.contains(document.activeElement) && document.activeElement.closest("details");
  old.replaceWith(part);
  if (focused) document.getElementById(focused.id)?.querySelector("summary").focus();
}

// A browser asks again by itself when a connection broke, but not when the answer was a refusal: too many pages, or a proxy without
// the node behind it.
function connect() {
  const events = new EventSource("events");
  events.addEventListener("live", show);
  events.addEventListener("bye", () => say("The node has stopped; what is shown is how it was.", true));
  events.onerror = () => {
    if (!line.className) say("The node does not answer; what is shown is how it was.", true);
    if (events.readyState === EventSource.CLOSED) setTimeout(connect, 5000);
  };
}

connect();
