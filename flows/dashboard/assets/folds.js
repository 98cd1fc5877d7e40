// Dash makes anew, and closed, what changes while a page is open: what a person has opened there
// opens again.
const opened = new Set();

function foldName(details) {
  const place = details.parentElement.closest("[id]")?.id;
  return [window.location.pathname, place, details.firstElementChild.textContent].join("\n");
}

// The event does not bubble.
document.addEventListener("toggle", ({ target }) => {
  if (target.isConnected) opened[target.open ? "add" : "delete"](foldName(target));
}, true);

new MutationObserver(() =>
  document.querySelectorAll("details:not([open])").forEach((details) => {
    if (opened.has(foldName(details))) details.open = true;
  })
).observe(document.documentElement, { childList: true, subtree: true });
