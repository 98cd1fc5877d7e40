// Dash's Upload has no property for the name of its input, which a screen reader needs.
new MutationObserver(() =>
  document.querySelectorAll("input[type=file]:not([aria-label])").forEach((input) =>
    input.setAttribute("aria-label", "a table of finished runs")
  )
).observe(document.documentElement, { childList: true, subtree: true });
