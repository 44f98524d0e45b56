() => {
  const flaws = [];
  const all = (selector) => [...document.querySelectorAll(selector)];
  if (all("script").length) flaws.push("a script");
  for (const element of all("*")) {
    for (const { name } of element.attributes) {
      if (name.startsWith("on") || name === "style") flaws.push(`${element.tagName} has ${name}`);
    }
  }
  if (all("h1").length !== 1) flaws.push(`${all("h1").length} h1`);
  if (!document.documentElement.lang) flaws.push("no lang");
  if (!document.title) flaws.push("no title");
  if (all("main").length !== 1) flaws.push("no main, or several");
  if (!document.querySelector("meta[name=viewport]")) flaws.push("no viewport");
  if (all("img:not([alt])").length) flaws.push("a picture without words");
  for (const field of all("input:not([type=hidden]), select, textarea")) {
    if (!field.labels.length) flaws.push(`${field.name} has no label`);
  }
  for (const element of all("button, a[href]")) {
    if (!element.innerText.trim() && !element.getAttribute("aria-label")) flaws.push("a button without a name");
  }
  const ids = all("[id]").map((element) => element.id);
  if (new Set(ids).size !== ids.length) flaws.push("an id twice");
  let level = 1;
  for (const heading of all("h1, h2, h3, h4")) {
    const next = Number(heading.tagName[1]);
    if (next > level + 1) flaws.push(`from h${level} to h${next}`);
    level = next;
  }
  const root = document.scrollingElement;
  if (root.scrollWidth > root.clientWidth) flaws.push(`${root.scrollWidth} wide on ${root.clientWidth}`);
  if (getComputedStyle(document.body).marginTop !== "0px") flaws.push("the style is not applied");

  // Contrast: each text's colour over what lies behind it.
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const over = (layers) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const layer of layers) { canvas.fillStyle = layer; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const base = matchMedia("(prefers-color-scheme: dark)").matches ? "#121212" : "#ffffff";
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const text = node.textContent.trim();
    const element = node.parentElement;
    if (!text || !element.checkVisibility()) continue;
    const behind = [];
    let opacity = 1;
    for (let parent = element; parent; parent = parent.parentElement) {
      const style = getComputedStyle(parent);
      behind.unshift(style.backgroundColor);
      opacity *= Number(style.opacity);
    }
    const ground = over([base, ...behind]);
    const ink = over([`rgb(${ground})`, getComputedStyle(element).color]);
    const seen = ink.map((value, i) => value * opacity + ground[i] * (1 - opacity));
    const [light, dark] = [luminance(seen), luminance(ground)].sort((a, b) => b - a);
    texts.push({ text: text.slice(0, 40), contrast: (light + 0.05) / (dark + 0.05) });
  }
  return { flaws, texts };
}
