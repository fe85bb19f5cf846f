// Elements are made here, and texts enter the page as text only: nothing that a model, a worker or a passage is called
// can become markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes; children are elements or texts, and what is null is left out. */
export function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for drawings. */
export function drawn(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** Show children in a node. What has not changed stays, so that a selection or a place in the text is not lost. */
export function show(node, ...children) {
  const fresh = node.cloneNode(false);
  fresh.append(...children.flat().filter((child) => child !== null && child !== undefined));
  morph(node, fresh);
}

function morph(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const next = [...fresh.childNodes];
  const last = [...old.childNodes];
  next.forEach((child, index) => {
    const counterpart = last[index];
    if (counterpart === undefined) old.append(child);
    else if (counterpart.nodeName !== child.nodeName) counterpart.replaceWith(child);
    else if (child.nodeType === Node.TEXT_NODE) {
      if (counterpart.data !== child.data) counterpart.data = child.data;
    } else morph(counterpart, child);
  });
  for (const child of last.slice(next.length)) child.remove();
}
