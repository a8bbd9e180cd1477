// Sort the layer table by the clicked column; a second click turns the order round.
document.querySelectorAll("th button").forEach((button) => {
  button.addEventListener("click", () => {
    const header = button.parentElement;
    const column = header.cellIndex;
    const body = header.closest("table").tBodies[0];
    const down = header.getAttribute("aria-sort") === "ascending";
    header.parentElement.querySelectorAll("th").forEach((th) => th.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.cells[column].dataset.key ?? row.cells[column].textContent;
    const rows = [...body.rows].sort((a, b) =>
      key(a).localeCompare(key(b), undefined, { numeric: true }));
    if (header.classList.contains("number")) {
      rows.sort((a, b) => Number(key(a)) - Number(key(b)));
    }
    body.append(...(down ? rows.reverse() : rows));
  });
});
