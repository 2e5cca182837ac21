"""Any function beside a golden one: data of many families, a unit for each element, findings."""
