"""Answers against their questionnaire: which questions there are, which of them are asked, and what may be answered.

Specification: https://hl7.org/fhir/R4/questionnaireresponse.html#notes, https://hl7.org/fhir/R4/questionnaire.html
"""

from fhir_server.validation.questionnaires.responses import ResponseCheck

__all__ = ["ResponseCheck"]
