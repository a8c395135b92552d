"""The rig as an edge node of Eclipse Sparkplug B, for SCADA hosts."""
