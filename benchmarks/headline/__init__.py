"""`cim bench headline`: attention, and more, of a CIM system beside a CPU's, with every assumption in the open."""
