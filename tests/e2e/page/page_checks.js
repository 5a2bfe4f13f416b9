// Contrast of every visible text to its background (WCAG 2.1, 1.4.3), and controls and regions without a name.
() => {
  const linear = (share) => (share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4);
  const parse = (colour) => colour.match(/[\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const background = (node) => {
    for (; node; node = node.parentElement) {
      const found = parse(getComputedStyle(node).backgroundColor);
      if (found.length < 4 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  const bad = [];
  for (const node of document.querySelectorAll("body *")) {
    const text = [...node.childNodes].some((each) => each.nodeType === 3 && each.textContent.trim());
    if (!text || !node.checkVisibility()) continue;
    const both = [luminance(parse(getComputedStyle(node).color)), luminance(background(node))];
    if ((Math.max(...both) + 0.05) / (Math.min(...both) + 0.05) < 4.5) bad.push(node.textContent.slice(0, 40));
  }
  for (const node of document.querySelectorAll("button, a, input, section, svg[role=img], [tabindex='0']")) {
    const named = document.getElementById(node.getAttribute("aria-labelledby"));
    const name = node.getAttribute("aria-label") ?? (named ?? node.labels?.[0] ?? node).textContent;
    if (!name.trim()) bad.push(`no name: ${node.outerHTML.slice(0, 60)}`);
  }
  return bad;
}
