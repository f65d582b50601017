"use strict";
(() => {
  const byId = (id) => document.getElementById(id);

  // The table of constants: find, choose by confidence, sort.
  const table = byId("constants"), filter = byId("filter"), level = byId("confidence"), shown = byId("shown");
  const rows = [...table.tBodies[0].rows];
  const apply = () => {
    const wanted = filter.value.trim().toLowerCase();
    let count = 0;
    for (const row of rows) {
      const fits = level.value === "all" || row.cells[2].textContent === level.value
        || (level.value === "behind energy" && row.cells[5].textContent !== "");
      row.hidden = !(fits && row.textContent.toLowerCase().includes(wanted));
      count += row.hidden ? 0 : 1;
    }
    shown.textContent = `${count} of ${rows.length} constants`;
  };
  filter.form.addEventListener("submit", (event) => event.preventDefault());
  filter.addEventListener("input", apply);
  level.addEventListener("input", apply);

  const key = (row, column) => {
    const cell = row.cells[column];
    const value = cell.dataset.sort ?? cell.textContent;
    return value !== "" && !Number.isNaN(Number(value)) ? Number(value) : value;
  };
  const compare = (a, b) => (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1);
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const sorted = [...rows].sort((a, b) => compare(key(a, column), key(b, column)) * (down ? -1 : 1));
      table.tBodies[0].append(...sorted);
    });
  });

  // A link to a row that the filter hides shows all rows again; one into closed details opens them.
  const reveal = () => {
    const place = location.hash.length > 1 ? byId(decodeURIComponent(location.hash.slice(1))) : null;
    if (place === null) return;
    if (place.hidden) { filter.value = ""; level.value = "all"; apply(); }
    const closed = place.closest("details:not([open])");
    if (closed) closed.open = true;
    place.scrollIntoView({ block: "center" });
  };
  window.addEventListener("hashchange", () => { if (/^#(constant|line|component)-/.test(location.hash)) reveal(); });
  if (/^#(constant|line|component)-/.test(location.hash)) reveal();
  window.addEventListener("beforeprint", () => { for (const d of document.querySelectorAll("details")) d.open = true; });

  // What a tile is, for those who cannot rest a pointer on it.
  document.querySelector(".plot.detail")?.addEventListener("click", (event) => {
    const title = event.target.closest(".cell")?.querySelector("title");
    if (title) byId("chip-words").textContent = title.textContent;
  });

  // The map of many chips: the chosen one in full.
  const held = byId("tiles");
  if (held === null) return;
  const map = JSON.parse(held.textContent);
  const cells = [...document.querySelectorAll(".plot.detail .cell")];
  const count = (macros) => Object.values(macros).reduce((a, b) => a + b, 0);
  const describe = (tile) => {
    const role = map.roles[tile[3]];
    const kinds = Object.entries(role.macros).map(([kind, n]) => `${n} ${kind}`).join(", ");
    return `${tile[2]} · ${role.name} · ${map.labels[tile[4]]} · ${count(role.macros)} of ${map.per_tile} macros`
      + (kinds ? ` (${kinds})` : "");
  };
  const empty = (x, y) => `(${x}, ${y}): no role`;
  const named = (chip) => `chip (${chip % map.across}, ${Math.floor(chip / map.across)})`;
  const drawing = document.querySelector(".plot.detail"), heading = drawing.querySelector(":scope > title");
  const paint = byId("paint");
  const shade = (tile) => (paint.value === "layer" ? map.by_layer[tile[4]] : map.by_role[tile[3]]);
  const paths = (tiles) => {  // one for all tiles of a colour
    const squares = new Map();
    for (const tile of tiles) squares.set(shade(tile), (squares.get(shade(tile)) ?? "") + `M${tile[0]} ${tile[1]}h1v1h-1z`);
    return [...squares].map(([name, d]) => {
      const path = document.createElementNS(document.querySelector("svg").namespaceURI, "path");
      path.setAttribute("d", d);
      path.setAttribute("class", name);
      return path;
    });
  };
  let at = new Map(), chosen = Object.keys(map.chips)[0];
  const fine = document.querySelector(".plot.detail .fine");
  fine?.ownerSVGElement.addEventListener("pointermove", (event) => {
    const box = fine.ownerSVGElement.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) / box.width) * map.columns);
    const y = Math.floor(((event.clientY - box.top) / box.height) * map.rows);
    const tile = at.get(y * map.columns + x);
    byId("chip-words").textContent = tile ? describe(tile) : empty(x, y);
  });
  const show = (chip) => {
    chosen = chip;
    const found = map.chips[chip] ?? { words: `${named(chip)}: not in use`, tiles: [] };
    const label = `Tiles of ${named(chip)}`;
    drawing.setAttribute("aria-label", label);
    heading.textContent = label;
    at = new Map(found.tiles.map((tile) => [tile[1] * map.columns + tile[0], tile]));
    if (fine) fine.replaceChildren(...paths(found.tiles));
    byId("chip-words").textContent = found.words;
    cells.forEach((cell, n) => {
      const tile = at.get(n), square = cell.querySelector(".square"), used = cell.querySelector(".used");
      const role = tile && map.roles[tile[3]];
      square.setAttribute("class", tile ? `square ${shade(tile)}` : "square empty");
      cell.querySelector("title").textContent = tile ? describe(tile) : empty(n % map.columns, Math.floor(n / map.columns));
      const width = square.getAttribute("width") * 0.83;
      used.setAttribute("width", tile ? (width * count(role.macros)) / map.per_tile : 0);
      const name = cell.querySelector(".role"), label = cell.querySelector(".label");
      if (name) name.textContent = tile ? map.families[role.family].slice(0, map.letters) : "";
      if (label) label.textContent = tile ? map.short[tile[4]].slice(0, map.letters) : "";
    });
    for (const link of chips) {
      const is = link.dataset.chip === String(chip);
      link.classList.toggle("chosen", is);
      link.setAttribute("tabindex", is ? 0 : -1);
    }
  };
  const chips = [...document.querySelectorAll(".plot.overview .chip")];
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -map.across, ArrowDown: map.across };
  chips.forEach((link, n) => {
    link.addEventListener("click", (event) => { event.preventDefault(); show(link.dataset.chip); });
    link.addEventListener("keydown", (event) => {
      const next = chips[n + (steps[event.key] ?? NaN)];
      if (!next) return;
      event.preventDefault();
      show(next.dataset.chip);
      next.focus();
    });
  });
  byId("choice").hidden = false;
  paint.addEventListener("input", () => {
    byId("roles").hidden = paint.value === "layer";
    byId("layers-note").hidden = paint.value !== "layer";
    for (const link of chips) {
      const frame = link.querySelector(".frame");
      for (const old of link.querySelectorAll("path")) old.remove();
      frame.before(...paths(map.chips[link.dataset.chip]?.tiles ?? []));
    }
    show(chosen);
  });
  show(chosen);
})();
