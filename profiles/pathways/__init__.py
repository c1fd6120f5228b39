"""Pathways and rules of follow-up as files that a clinician can read and edit; format: followup.md section 6.5."""
