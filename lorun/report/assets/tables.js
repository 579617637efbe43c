// Sorting and filtering by DataTables, without its styles.
import DataTable from "DATATABLES";

for (const wrapper of document.querySelectorAll(".table")) {
  const table = wrapper.querySelector("table");
  for (const row of table.tBodies[0].rows) {
    row.classList.toggle("ours", row.cells[0].textContent.trim().startsWith("lorun"));
  }
  const sorted = new DataTable(table, {
    paging: false,
    info: false,
    order: [],
    autoWidth: false,
    layout: { topStart: null, topEnd: null, bottomStart: null, bottomEnd: null },
    language: { emptyTable: "No rows.", zeroRecords: "No row matches the filter." },
  });
  const controls = wrapper.querySelector(".controls");
  const protocol = controls.querySelector(".protocol");
  if (protocol !== null) {
    const column = sorted.column(-1);
    const only = () => {
      column.search(protocol.value, { exact: protocol.value !== "" }).draw();
      column.visible(protocol.value === "");
    };
    protocol.addEventListener("change", only);
    only();
  }
  if ("controls" in wrapper.dataset) {
    const input = document.createElement("input");
    input.type = "search";
    input.placeholder = "method, dataset, ...";
    input.addEventListener("input", () => sorted.search(input.value).draw());
    const label = document.createElement("label");
    label.className = "filter";
    label.append("Filter ", input);
    controls.prepend(label);
  }
}
