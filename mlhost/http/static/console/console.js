// What makes the console's pages livelier. Without it every page still shows and does the same, when asked.
"use strict";

(() => {
  // --- what polls rests while nobody looks ------------------------------------------------------------------------
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.target.closest("[data-live]") && document.hidden) event.preventDefault();
  });

  // --- a cell: Ctrl+Enter runs it, and what it prints is seen at its end ---------------------------------------------
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || !event.target.matches("textarea[data-run]")) return;
    event.preventDefault();
    event.target.form.requestSubmit();
  });
  const toEnd = (root) => root.querySelectorAll("[data-tail]").forEach((place) => { place.scrollTop = place.scrollHeight; });
  document.addEventListener("DOMContentLoaded", () => toEnd(document));
  document.addEventListener("htmx:load", (event) => toEnd(event.target));

  // --- copying ----------------------------------------------------------------------------------------------------
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    const said = button.textContent;
    try {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select and copy by hand";
    }
    setTimeout(() => { button.textContent = said; }, 2000);
  });

  // --- a CSV file dropped onto a text that holds a table -----------------------------------------------------------
  const rowsOf = (text) => {
    const rows = [[]];
    let cell = "", quoted = false;
    for (let at = 0; at < text.length; at++) {
      const sign = text[at];
      if (quoted) {
        if (sign !== '"') cell += sign;
        else if (text[at + 1] === '"') { cell += '"'; at++; }
        else quoted = false;
      } else if (sign === '"') quoted = true;
      else if (sign === ",") { rows.at(-1).push(cell); cell = ""; }
      else if (sign === "\n") { rows.at(-1).push(cell); cell = ""; rows.push([]); }
      else if (sign !== "\r") cell += sign;
    }
    rows.at(-1).push(cell);
    return rows.filter((row) => row.length > 1 || row[0] !== "");
  };
  const typed = (cell) => {
    if (cell === "") return null;
    if (cell === "true" || cell === "false") return cell === "true";
    return cell.trim() !== "" && Number.isFinite(Number(cell)) ? Number(cell) : cell;
  };
  const shaped = {
    frame: (rows) => Object.fromEntries(rows[0].map((name, at) => [name, rows.slice(1).map((row) => typed(row[at] ?? ""))])),
    matrix: (rows) => numbersOnly(rows),
    vector: (rows) => numbersOnly(rows).flat(),
  };
  const numbersOnly = (rows) => {
    const read = rows.map((row) => row.map(typed));
    return read.length > 1 && read[0].every((cell) => typeof cell === "string") ? read.slice(1) : read;
  };
  const over = (event) => event.target.closest?.("textarea[data-drop]");
  document.addEventListener("dragover", (event) => {
    const area = over(event);
    if (!area) return;
    event.preventDefault();
    area.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => over(event)?.classList.remove("dropping"));
  document.addEventListener("drop", async (event) => {
    const area = over(event);
    const file = event.dataTransfer?.files[0];
    if (!area || !file) return;
    event.preventDefault();
    area.classList.remove("dropping");
    const text = await file.text();
    const shape = shaped[area.dataset.drop];  // none: the text as it is
    area.value = shape ? JSON.stringify(shape(rowsOf(text))) : text;
  });

  // --- charts -----------------------------------------------------------------------------------------------------
  // <div class="chart" data-chart="/console/…json" data-every="5" data-label="…">: the address gives
  // {"times": [seconds], "series": [{"label": "…", "unit": "ms", "values": [number or null]}]}.
  const INKS = ["--main", "--warn", "--bad", "--good"];
  const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString();
  const options = (place, series) => {
    const axis = { stroke: ink("--dim"), grid: { stroke: ink("--line"), width: 1 }, ticks: { stroke: ink("--line"), width: 1 } };
    return {
      width: place.clientWidth, height: 200,
      scales: { x: { range: (_, least, most) => [Math.min(least, most - 60), most] }, y: { range: (_, least, most) => [0, most > 0 ? most * 1.1 : 1] } },
      axes: [{ ...axis, space: 90, values: (_, ticks) => ticks.map(clock) }, { ...axis, size: 60 }],
      series: [{ label: "Time", value: (_, seconds) => seconds == null ? "–" : clock(seconds) }, ...series.map((one, at) => ({
        label: one.label, stroke: ink(INKS[at % INKS.length]), width: 2, points: { show: true, size: 4, fill: ink(INKS[at % INKS.length]) }, spanGaps: false,
        dash: at ? [6, 2 * at + 1] : undefined,
        value: (_, value) => value == null ? "–" : `${Number(value.toPrecision(3))} ${one.unit}`,
      }))],
    };
  };
  const draw = async (place) => {
    if (!document.hidden) {
      const answer = await fetch(place.dataset.chart, { headers: { Accept: "application/json" } });
      if (answer.status === 401) { location.reload(); return; }
      if (answer.ok) {
        const { times, series } = await answer.json();
        const data = [times, ...series.map((one) => one.values)];
        if (place.plot) place.plot.setData(data);
        else {
          place.textContent = "";
          place.plot = new uPlot(options(place, series), data, place);
        }
      }
    }
    const seconds = Number(place.dataset.every);
    if (seconds && place.isConnected) setTimeout(() => draw(place).catch(() => {}), seconds * 1000);
  };
  const begin = (root) => root.querySelectorAll("[data-chart]").forEach((place) => {
    if (place.begun) return;
    place.begun = true;
    draw(place).catch(() => {});
    new ResizeObserver(() => place.plot?.setSize({ width: place.clientWidth, height: 200 })).observe(place);
  });
  document.addEventListener("DOMContentLoaded", () => begin(document));
  document.addEventListener("htmx:load", (event) => begin(event.target));
})();
